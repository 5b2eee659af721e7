"""Scores of a dataset's events by a network, batch by batch: particles are never held for more than one batch."""

from __future__ import annotations

import json
import logging
import time
import zipfile
from functools import cache
from typing import Protocol

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

from toposieve.config import TrainingConfig, load_config
from toposieve.errors import InvalidInputError
from toposieve.evaluation.inputs import ModelRun, TestData, open_test_data
from toposieve.io.event_tables import read_tables
from toposieve.io.manifests import read_manifest_if_any
from toposieve.io.scores import LazyScores, Scores, publish_scores
from toposieve.io.store import Key
from toposieve.models import PARTICLES
from toposieve.training.architectures import build_model
from toposieve.training.architectures.parts import logits_of
from toposieve.training.cache import Cache
from toposieve.training.export import scaled_part
from toposieve.training.input_pipeline import ordered_batches
from toposieve.training.order import Share
from toposieve.training.records import Batch
from toposieve.training.sources import open_source

BATCH_EVENTS = 256
TABLE_BATCH_EVENTS = 8192
"""Of a model that takes no particles."""
XLA_EVENTS = 20_000
"""From this many events on, compiling a model for each padded length (1 s each) pays on CPU, for twice the speed."""
LOG_SECONDS = 10.0

logger = logging.getLogger(__name__)


class Scorer(Protocol):
    """A model ready to score batches."""

    def __call__(self, inputs: Batch) -> tf.Tensor:
        """(batch, ...) inputs → (batch, classes)."""
        ...


def score(base: Key, dataset: Key, run: ModelRun, *, recompute: bool = False) -> None:
    """Publish a network's scores of a dataset, unless they are there; other classifiers have published theirs.

    Args:
        base: Where all data lives.
        dataset: The dataset's folder.
        run: A finished training run.
        recompute: Make them anew.

    Raises:
        InvalidInputError: The model or a shard is damaged, a score is not finite, or another classifier's are missing.
    """
    if run.model_file is not None:
        model = cache(lambda: logits_of(load_model(run)))  # once for both splits, and not for what is there
        scores = LazyScores(lambda split: score_split(open_test_data(dataset, split), run, model()))
        publish_scores(base, dataset, run.directory, scores, recompute=recompute)
    elif read_manifest_if_any(run.scores) is None:
        raise InvalidInputError(
            f"{run.label}: {run.scores} has no scores of {dataset.name}: run the training of {run.model} again"
        )


def score_split(data: TestData, run: ModelRun, model: keras.Model) -> Scores:
    """Scores of one split by a run's model, which ends before the softmax, in the order of the split's shards.

    Raises:
        InvalidInputError: A shard is damaged.
    """
    split = data.split
    takes_particles = PARTICLES in model.input
    xla = takes_particles and split.events >= XLA_EVENTS and not tf.config.list_logical_devices("GPU")
    scorer = make_scorer(model, xla=xla)
    table = pa.concat_tables(read_tables(data.directory, data.manifest, split.name))
    meter, labels, logits = _Meter(f"{run.label}: scored", split.events), [], []
    share = Share(BATCH_EVENTS if takes_particles else TABLE_BATCH_EVENTS)
    with Cache() as cache:
        for batch in ordered_batches(split, open_source(split, tuple(sorted(model.input)), cache), share):
            real = np.asarray(batch["present"]) > 0
            logits.append(scorer({key: batch[key] for key in model.input}).numpy()[real])
            labels.append(np.asarray(batch["label"])[real])
            meter.add(len(labels[-1]))
    return Scores(table["event_id"].combine_chunks(), np.concatenate(labels), np.concatenate(logits))


def load_model(run: ModelRun) -> keras.Model:
    """The model on scaled events, of our own layers: the published ones are slower, and need more memory.

    Raises:
        InvalidInputError: The file is damaged.
    """
    config = load_config(TrainingConfig, json.dumps(run.manifest.config))
    model_file = run.model_file
    assert model_file is not None
    with model_file.fetch() as path:
        try:
            published = scaled_part(keras.models.load_model(path, compile=False), config.model)
            model = build_model(config.model_copy(update={"precision": "float32"}))
            model.set_weights(published.get_weights())
            return model
        except (zipfile.BadZipFile, ValueError, KeyError, TypeError, OSError) as error:
            raise InvalidInputError(
                f"{model_file} is no model that can be read ({str(error).splitlines()[0]}): "
                f"remove it, and train {config.model} again"
            ) from None


def make_scorer(model: keras.Model, *, xla: bool) -> Scorer:
    """Compile a model's inference, with XLA once for every shape of its inputs."""
    scorer: Scorer = tf.function(
        lambda inputs: model(inputs, training=False), jit_compile=xla, reduce_retracing=not xla
    )
    return scorer


class _Meter:
    """Says every few seconds how far the scoring is."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._events = what, total, 0
        self._start = self._last = time.monotonic()

    def add(self, events: int) -> None:
        """Count events, and log those done so far, unless that was just said."""
        self._events += events
        now = time.monotonic()
        if self._events == self._total or now - self._last >= LOG_SECONDS:
            self._last = now
            rate = self._events / max(now - self._start, 1e-9)
            logger.info("%s %d of %d events, %.0f events/s", self._what, self._events, self._total, rate)
