"""What a model is made of, in words: by these a run knows whether the code still makes the model it has trained."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import keras


def describe_layers(model: keras.Model) -> list[str]:
    """For each layer its name, class, shapes of weights, and a digest of its configuration and of what it takes."""
    text = model.to_json()
    names = [entry["name"] for entry in json.loads(text)["config"]["layers"]]
    for number, name in enumerate(names):  # Keras counts on in the names that it gives by itself
        text = text.replace(json.dumps(name), json.dumps(f"layer {number}"))
    weights = {layer.name: layer.weights for layer in model.layers}
    entries = json.loads(text)["config"]["layers"]
    return [_describe(name, entry, weights.get(name, ())) for name, entry in zip(names, entries, strict=True)]


def _describe(name: str, entry: dict[str, Any], weights: Sequence[keras.Variable]) -> str:
    shapes = ("x".join(map(str, weight.shape)) for weight in weights)
    digest = hashlib.blake2b(json.dumps(entry, sort_keys=True).encode(), digest_size=4).hexdigest()
    return f"{re.sub(r'_[0-9]+$', '', name)} ({' '.join((entry['class_name'], *shapes, digest))})"


def differences(was: Sequence[str], now: Sequence[str]) -> str:
    """Where two descriptions differ, in words; empty where they do not."""
    pairs = zip_longest(was, now, fillvalue="nothing")
    return "; ".join(f"{before} is now {after}" for before, after in pairs if before != after)
