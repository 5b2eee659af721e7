"""Scores of trained networks for a split, batch by batch: particles are never held for more than one batch."""

from __future__ import annotations

import logging
import time
import zipfile
from collections.abc import Sequence
from typing import Protocol

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

from toposieve.errors import InvalidInputError
from toposieve.evaluation.inputs import ModelRun
from toposieve.io.scores import Scores
from toposieve.models import ARCHITECTURES, HIGH_LEVEL, PARTICLES
from toposieve.training.architectures import build_model
from toposieve.training.architectures.parts import logits_of
from toposieve.training.cache import Cache
from toposieve.training.export import scaled_part
from toposieve.training.input_pipeline import ordered_batches
from toposieve.training.order import Share
from toposieve.training.records import Batch
from toposieve.training.shards import Split
from toposieve.training.sources import open_source

BATCH_EVENTS = {True: 256, False: 8192}
"""Whether particles are read → events scored at a time."""
XLA_EVENTS = 20_000
"""From this many events on, compiling a model for each padded length (1 s each) pays on CPU, for twice the speed."""
LOG_SECONDS = 10.0

logger = logging.getLogger(__name__)


class Scorer(Protocol):
    """A model ready to score batches."""

    def __call__(self, inputs: Batch) -> tf.Tensor:
        """(batch, ...) inputs → (batch, classes)."""
        ...


def score(split: Split, runs: Sequence[ModelRun], event_ids: pa.Array) -> list[tuple[Scores, float]]:
    """Score all events of a split with several models, in one pass over it: scores and seconds of each.

    Args:
        split: The events.
        runs: The models, which all read particles or all do not.
        event_ids: Of the events, in order.

    Raises:
        InvalidInputError: A shard or a model is damaged.
    """
    models = [_load_model(run) for run in runs]
    xla = split.events >= XLA_EVENTS and not tf.config.list_logical_devices("GPU")
    scorers = [make_scorer(logits_of(model), xla=xla) for model in models]
    found: list[list[np.ndarray]] = [[] for _ in models]
    seconds, meter = [0.0] * len(models), _Meter(split)
    roles = sorted({name for model in models for name in model.input} | {HIGH_LEVEL})
    with Cache() as cache:
        source = open_source(split, tuple(roles), cache)
        for batch in ordered_batches(split, source, Share(BATCH_EVENTS[PARTICLES in roles])):
            real = np.asarray(batch["present"]) > 0
            for place, (model, scorer) in enumerate(zip(models, scorers, strict=True)):
                start = time.monotonic()
                found[place].append(scorer({key: batch[key] for key in model.input}).numpy()[real])
                seconds[place] += time.monotonic() - start
            meter.add(int(real.sum()))
    return [(Scores(event_ids, np.concatenate(parts)), each) for parts, each in zip(found, seconds, strict=True)]


def reads_particles(run: ModelRun) -> bool:
    """Whether a run's model takes particles."""
    return PARTICLES in ARCHITECTURES[run.config.model].inputs


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


class _Meter:
    """Says every few seconds how far the scoring is."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._events = 0
        self._start = self._last = time.monotonic()

    def add(self, events: int) -> None:
        """Log the events done so far, unless that was just said."""
        self._events += events
        total, now = self._split.events, time.monotonic()
        if self._events == total or now - self._last >= LOG_SECONDS:
            self._last, rate = now, self._events / max(now - self._start, 1e-9)
            logger.info("scored %d of %d %s events, %.0f events/s", self._events, total, self._split.name, rate)
