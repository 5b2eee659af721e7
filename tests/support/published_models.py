"""Runs on the way that a model takes: evaluated, registered, published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import evaluate
from toposieve import registry
from toposieve.io.store import Key


def evaluate_and_publish(base: Key, dataset: str, runs: Mapping[str, Path | Key]) -> None:
    """Evaluate runs of a dataset, by their labels, and publish each by the name of its label, as version 1."""
    labels = [f"{label}=models/{run.parent.name}/{run.name}" for label, run in runs.items()]
    command = ["--base", str(base), "--dataset", dataset, "--report", dataset, "--set", "bootstrap_samples=2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toposieve.evaluation.content.draw", lambda *_: {})  # pictures take longer than all the rest
        patch.setattr("toposieve.evaluation.report.render", lambda *_: "")
        evaluate.main(evaluate.arg_parser().parse_args([*command, "--labels", *labels]))
    for label in runs:
        version = registry.register(base, label, dataset, label)
        registry.publish(registry.registry_folder(base, label), version, "ada", "x")
