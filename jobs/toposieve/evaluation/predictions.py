"""Scores of the test events, batch by batch: particles are never held for more than one batch."""

from __future__ import annotations

import logging
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.evaluation.inputs import ModelRun, TestData
from toposieve.models import HIGH_LEVEL, PARTICLES
from toposieve.training.architectures import build_model
from toposieve.training.cache import Cache
from toposieve.training.export import scaled_part
from toposieve.training.input_pipeline import ordered_batches
from toposieve.training.order import Share
from toposieve.training.records import EVENT_ID, Batch
from toposieve.training.shards import signed_factors
from toposieve.training.sources import open_source

BATCH_EVENTS = 256
XLA_EVENTS = 20_000
"""From this many events on, compiling a model for each padded length (1 s each) pays on CPU, for twice the speed."""
LOG_SECONDS = 10.0

logger = logging.getLogger(__name__)


class Scorer(Protocol):
    """A model ready to score batches."""

    def __call__(self, inputs: Batch) -> tf.Tensor:
        """(batch, ...) inputs → (batch, classes)."""
        ...


@dataclass(frozen=True)
class Predictions:
    """What the report needs of every test event, in the order of the shards."""

    event_ids: pa.Array
    """(events,) "file id:entry"."""
    labels: npt.NDArray[np.int64]
    stored_weights: npt.NDArray[np.float32]
    """(events,) as the shards hold them: signed, of mean size 1 within each class of the training split."""
    weights: npt.NDArray[np.float64]
    """(events,) the same of mean 1; 0 in a class where they do not add up to more than 0."""
    features: npt.NDArray[np.float32]
    """(events, 14) high-level features in physical units; (events, 0) where scaling cannot be undone."""
    particles: npt.NDArray[np.int64]
    """(events,) number of particles; empty if no model takes them."""
    scores: dict[str, npt.NDArray[np.float32]]
    """Model → (events, classes)."""
    seconds: dict[str, float]
    """Model → time spent in it."""


def predict(data: TestData, runs: Sequence[ModelRun]) -> Predictions:
    """Score the test split with every model, in one pass over it.

    Raises:
        InvalidInputError: A shard is damaged, its events are not those the manifest counts, or a score is not finite.
    """
    models: dict[str, keras.Model] = {run.config.model: _load_model(run) for run in runs}
    xla = data.split.events >= XLA_EVENTS and not tf.config.list_logical_devices("GPU")
    scorers = {name: make_scorer(model, xla=xla) for name, model in models.items()}
    roles = {name for model in models.values() for name in model.input} | {HIGH_LEVEL}
    split = data.split
    collected = _Collected(list(models), PARTICLES in roles)
    meter = _Meter(split.events)
    with Cache() as cache:
        source = open_source(split, (*sorted(roles), EVENT_ID), cache)
        for batch in ordered_batches(split, source, Share(BATCH_EVENTS)):
            inputs = {name: {key: batch[key] for key in model.input} for name, model in models.items()}
            collected.add(batch, inputs, scorers)
            meter.show(collected.events)
    predictions = collected.finish(data)
    _check(data, predictions)
    return predictions


def _load_model(run: ModelRun) -> keras.Model:
    """The model on scaled events, of our own layers: the published ones are slower, and need more memory."""
    with run.model_file.fetch() as path:
        try:
            published = scaled_part(keras.models.load_model(path, compile=False), run.config.model)
            model = build_model(run.config)
            model.set_weights(published.get_weights())
            return model
        except (zipfile.BadZipFile, ValueError, KeyError, TypeError, OSError) as error:
            raise InvalidInputError(
                f"{run.model_file} is no model that can be read ({str(error).splitlines()[0]}): "
                f"remove it, and train {run.config.model} again"
            ) from None


def make_scorer(model: keras.Model, *, xla: bool) -> Scorer:
    """Compile a model's inference, with XLA once for every shape of its inputs."""
    scorer: Scorer = tf.function(
        lambda inputs: model(inputs, training=False), jit_compile=xla, reduce_retracing=not xla
    )
    return scorer


class _Collected:
    """Grows by a batch at a time."""

    def __init__(self, models: Sequence[str], has_particles: bool) -> None:
        self.events = 0
        self._has_particles = has_particles
        self._event_ids: list[pa.Array] = []
        self._columns: dict[str, list[npt.NDArray[Any]]] = {"label": [], "weight": [], HIGH_LEVEL: [], PARTICLES: []}
        self._scores: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in models}
        self._seconds = dict.fromkeys(models, 0.0)

    def add(self, batch: Batch, inputs: Mapping[str, Batch], scorers: Mapping[str, Scorer]) -> None:
        """Score a batch and keep what is needed of its real events."""
        real = np.asarray(batch["present"]) > 0
        self.events += int(real.sum())
        for name, scorer in scorers.items():
            start = time.monotonic()
            self._scores[name].append(scorer(inputs[name]).numpy()[real])
            self._seconds[name] += time.monotonic() - start
        for name in ("label", "weight", HIGH_LEVEL):
            self._columns[name].append(np.asarray(batch[name])[real])
        if self._has_particles:
            rows = tf.reduce_any(batch[PARTICLES] != 0.0, axis=-1)  # (batch, padded); padding is zero
            self._columns[PARTICLES].append(tf.math.count_nonzero(rows, axis=-1).numpy()[real])
        self._event_ids.append(pa.array(np.asarray(batch[EVENT_ID])[real], pa.binary()).cast(pa.string()))

    def finish(self, data: TestData) -> Predictions:
        """Everything as whole columns, features in physical units."""
        scaling = data.scaling
        scaled = np.concatenate(self._columns[HIGH_LEVEL])  # (events, 14)
        labels, stored = (np.concatenate(self._columns[name]) for name in ("label", "weight"))
        factors = np.array(signed_factors(data.manifest))
        return Predictions(
            event_ids=pa.concat_arrays(self._event_ids),
            labels=labels,
            stored_weights=stored,
            weights=np.multiply(stored, factors[labels], dtype=np.float64),
            features=scaled * scaling.high_level_scale + scaling.high_level_offset if scaling else scaled[:, :0],
            particles=np.concatenate(self._columns[PARTICLES] or [np.empty(0, np.int64)]),
            scores={name: np.concatenate(parts) for name, parts in self._scores.items()},
            seconds=self._seconds,
        )


class _Meter:
    """Says every few seconds how far the scoring is."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._start = self._last = time.monotonic()

    def show(self, events: int) -> None:
        """Log the events done so far, unless that was just said."""
        now = time.monotonic()
        if events == self._total or now - self._last >= LOG_SECONDS:
            self._last = now
            rate = events / max(now - self._start, 1e-9)
            logger.info("scored %d of %d test events, %.0f events/s", events, self._total, rate)


def _check(data: TestData, predictions: Predictions) -> None:
    for sample, expected in data.counts.items():
        found = int((predictions.labels == schema.LABELS[sample]).sum())
        if found != expected:
            raise InvalidInputError(
                f"{data.directory}: its test shards hold {found} events of {sample}, its manifest lists {expected}: "
                "prepare the dataset again"
            )
    for name, scores in predictions.scores.items():
        bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
        if len(bad):
            first = predictions.event_ids[int(bad[0])]
            raise InvalidInputError(
                f"{name} gives NaN or infinite scores for {len(bad)} test events, the first {first}: train it again"
            )


def write_parquet(path: Path, predictions: Predictions) -> None:
    """Write one row per test event: event id, label, weight, and each model's score of each class."""
    columns: dict[str, Any] = {
        "event_id": predictions.event_ids,
        "label": predictions.labels.astype(np.int8),
        "weight": predictions.weights.astype(np.float32),
    }
    for model, scores in predictions.scores.items():
        columns |= {f"{model}_{sample}": scores[:, label].copy() for sample, label in schema.LABELS.items()}
    pq.write_table(pa.table(columns), path, compression="zstd")
