"""What a run publishes: a standard Keras model, which loads where this project is not installed.

It takes events in physical units, as :mod:`toposieve.schema` orders their features: ``high_level`` (batch, 14), and
``particles`` (batch, particles, 19), zero-padded on the right. It scales them as the dataset was scaled; within it, by
the model's own name, is the one that takes scaled events. The same as a SavedModel is for those who serve it with
TensorFlow alone.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from toposieve.models import HIGH_LEVEL, PARTICLES
from toposieve.preprocessing import Scaling
from toposieve.training.dropout import EventDropout

NO_DATE = "1980-01-01@00:00:00"

Scale = Callable[[keras.KerasTensor], keras.KerasTensor]


def save_standard(path: Path, model: keras.Model, scaling: Scaling | None) -> None:
    """Write a model as a ``.keras`` file: the same bytes for the same weights."""
    standard(model, scaling).save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(parts["metadata.json"]) | {"date_saved": NO_DATE}
    parts |= {"metadata.json": json.dumps(metadata).encode(), "config.json": _without_addresses(parts["config.json"])}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def standard(model: keras.Model, scaling: Scaling | None) -> keras.Model:
    """The same model of standard layers: on scaled events without a scaling, else on physical ones."""
    inner = keras.models.clone_model(model, clone_function=_standard_layer)
    inner.set_weights(model.get_weights())
    _number_operations(inner)
    if scaling is None:
        return inner
    inputs = {name: keras.Input(tensor.shape[1:], name=name) for name, tensor in inner.input.items()}
    scales = {
        HIGH_LEVEL: _scale(HIGH_LEVEL, scaling.high_level_offset, scaling.high_level_scale),
        PARTICLES: _masked(_scale(PARTICLES, scaling.particle_offset, scaling.particle_scale)),
    }
    scaled = {name: scales[name](tensor) for name, tensor in inputs.items()}
    outer = keras.Model(inputs, inner(scaled), name=f"{model.name}_of_physical_units")
    _number_operations(outer)
    return outer


def save_for_serving(folder: Path, file: Path) -> None:
    """Write what :func:`save_standard` has written as a SavedModel too; its bytes are never the same.

    It takes any number of events, and of particles, on machines with a GPU and without one.
    """
    model = keras.models.load_model(file, compile=False)
    for layer in _layers(model):
        if isinstance(layer, keras.layers.GRU | keras.layers.LSTM):
            layer.use_cudnn = False  # where there is a GPU, the graph would need one for ever
    model.export(folder, format="tf_saved_model", verbose=False)


def _layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def scaled_part(model: keras.Model, name: str) -> keras.Model:
    """The model of this name, on scaled events, of one that was saved.

    Raises:
        ValueError: There is none.
    """
    return model if model.name == name else model.get_layer(name)


def _standard_layer(layer: keras.Operation) -> keras.Operation:
    """Ours are subclasses of the layers of Keras whose results they give, but for the dropout."""
    if isinstance(layer, EventDropout):
        return keras.layers.Dropout(layer.rate, seed=layer.stream, name=layer.name)
    kinds: tuple[type[keras.Operation], ...] = type(layer).__mro__
    kind = next(each for each in kinds if each.__module__.partition(".")[0] == "keras")
    return kind.from_config(layer.get_config())


def _number_operations(model: keras.Model) -> None:
    """Name what is no layer and has no name of its own: Keras numbers such operations through the process."""
    for number, operation in enumerate(model.operations):
        if not isinstance(operation, keras.layers.Layer):
            operation.name = f"{type(operation).__name__.lower()}_{number}"


def _scale(name: str, offset: NDArray[np.float32], scale: NDArray[np.float32]) -> Scale:
    mean, variance = offset.tolist(), np.square(scale, dtype=np.float64).tolist()
    layer: Scale = keras.layers.Normalization(mean=mean, variance=variance, name=f"scaled_{name}")
    return layer


def _masked(scale: Scale) -> Scale:
    """Scale and leave padding 0, by which the model knows it."""

    def scaled(particles: keras.KerasTensor) -> keras.KerasTensor:
        is_real = keras.ops.any(keras.ops.not_equal(particles, 0.0), axis=-1, keepdims=True)  # (batch, particles, 1)
        return keras.ops.where(is_real, scale(particles), 0.0)

    return scaled


def _without_addresses(config: bytes) -> bytes:
    """Keras tells shared objects by their places in memory: number them instead."""
    known: dict[bytes, int] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+', lambda match: b"%d" % known.setdefault(match[0], len(known) + 1), config
    )
