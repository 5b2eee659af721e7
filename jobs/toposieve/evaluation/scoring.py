"""Scores of a dataset's events by a network, batch by batch: particles are never held for more than a few."""

from __future__ import annotations

import json
import logging
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from typing import Protocol, TypeVar

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf
from numpy.typing import NDArray

from toposieve import latency
from toposieve.config import TrainingConfig, load_config
from toposieve.errors import InvalidInputError
from toposieve.evaluation.inputs import ModelRun, TestData, open_test_data
from toposieve.event_keys import Keys, text_keys
from toposieve.io.event_tables import read_tables
from toposieve.io.manifests import read_manifest_if_any
from toposieve.io.scores import LazyScores, PermutedScores, Scores, publish_scores
from toposieve.io.store import Key
from toposieve.latency import read_latency, write_latency
from toposieve.models import HIGH_LEVEL, PARTICLES
from toposieve.permutation import (
    PARTICLE_EVENTS,
    PARTICLE_GROUPS,
    TABLE_EVENTS,
    Floats,
    exchanged_features,
    exchanged_particles,
    sample_rows,
)
from toposieve.preprocessing import Scaling
from toposieve.training.architectures import build_model
from toposieve.training.architectures.parts import logits_of, parts_at_joint
from toposieve.training.cache import Cache
from toposieve.training.export import scaled_part
from toposieve.training.input_pipeline import ordered_batches
from toposieve.training.layers import describe_layers, differences
from toposieve.training.meter import Meter
from toposieve.training.order import Share
from toposieve.training.records import Batch
from toposieve.training.sources import open_source

BATCH_EVENTS = 256
TABLE_BATCH_EVENTS = 8192
"""Of a model that takes no particles."""
AT_ONCE = 2
"""Batches that are scored: one of a recurrent model keeps one core busy, and .1 GB; one of the transformers, .6 GB."""
XLA_EVENTS = 20_000
"""From this many events on, compiling a model for each padded length (1 s each) pays on CPU, for twice the speed."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

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
        permuted = partial(score_permuted, open_test_data(dataset), run.label, model)
        publish_scores(base, dataset, run.directory, scores, permuted, recompute=recompute)
        if recompute or read_latency(run.scores) is None:
            write_latency(run.scores, measure_latency(open_test_data(dataset), model()))
    elif read_manifest_if_any(run.scores) is None:
        raise InvalidInputError(
            f"{run.label}: {run.scores} has no scores of {dataset.name}: run the training of {run.model} again"
        )


def score_other(base: Key, dataset: Key, trained_on: TestData, run: ModelRun) -> Key:
    """Publish a network's scores of another dataset than it was trained on, scaled like that one.

    Args:
        base: Where all data lives.
        dataset: The other dataset's folder.
        trained_on: The run's own.
        run: A finished training run of a network.

    Returns:
        Folder of the scores.

    Raises:
        InvalidInputError: The model or a shard is damaged, a score is not finite, or a scaling is not known.
    """
    for data in (trained_on, open_test_data(dataset)):
        if data.scaling is None:
            raise InvalidInputError(f"{data.directory} does not say how it was scaled: leave --varied out")
    model = cache(lambda: logits_of(load_model(run)))
    scaling = trained_on.scaling
    scores = LazyScores(lambda split: score_split(open_test_data(dataset, split), run, model(), scaling))
    return publish_scores(base, dataset, run.directory, scores)


def score_split(data: TestData, run: ModelRun, model: keras.Model, scaling: Scaling | None = None) -> Scores:
    """Scores of one split by a run's model, which ends before the softmax, in the order of the split's shards.

    Args:
        data: The split.
        run: The run.
        model: Its model.
        scaling: That of the dataset that the model was trained on, where it is another.

    Raises:
        InvalidInputError: A shard is damaged.
    """
    split, scorer = data.split, _scorer_for(model, data.split.events)
    table = pa.concat_tables(read_tables(data.directory, data.manifest, split.name))
    meter, done, labels, logits = Meter(), 0, [], []
    share = Share(_batch_events(model))

    def scored(batch: Batch) -> tuple[Floats, NDArray[np.int64]]:
        real = np.asarray(batch["present"]) > 0
        inputs = _rescaled({key: batch[key] for key in model.input}, data.scaling, scaling)
        return scorer(inputs).numpy()[real], np.asarray(batch["label"])[real]

    with Cache() as cache:
        batches = ordered_batches(split, open_source(split, tuple(sorted(model.input)), cache), share)
        for found, of in in_parallel(scored, batches):
            logits.append(found)
            labels.append(of)
            done += len(of)
            if meter.is_due() or done == split.events:
                rate = meter.rate(done)
                logger.info("%s: scored %d of %d events, %.0f events/s", run.label, done, split.events, rate)
    return Scores(table["event_id"].combine_chunks(), np.concatenate(labels), np.concatenate(logits))


def _rescaled(inputs: Batch, stored: Scaling | None, wanted: Scaling | None) -> Batch:
    """A model's inputs as another scaling has them, if one is wanted, of what is known how it was scaled."""
    if wanted is None:
        return inputs
    assert stored is not None
    rescale = {HIGH_LEVEL: wanted.rescale_high_level, PARTICLES: wanted.rescale_particles}
    return {key: rescale[key](values, stored) for key, values in inputs.items()}


def score_permuted(data: TestData, label: str, load: Callable[[], keras.Model]) -> PermutedScores:
    """Scores of some test events, of which one feature or kind of particle after the other is another event's.

    Particles are left out where nobody knows how they were scaled: what is exchanged could not be put in order.

    Args:
        data: The test split.
        label: What to call the model.
        load: Gives the model, which ends before the softmax.

    Raises:
        InvalidInputError: A shard is damaged.
    """
    model = load()
    takes_particles = PARTICLES in model.input
    keys = text_keys(
        pa.concat_tables(read_tables(data.directory, data.manifest, data.split.name))["event_id"].to_pylist()
    )
    rows = sample_rows(keys, PARTICLE_EVENTS if takes_particles else TABLE_EVENTS)
    with Cache() as cache:
        source = open_source(data.split, tuple(sorted(model.input)), cache)
        [events] = source.batches(iter([rows[np.newaxis]]))
    inputs = {key: events[key] for key in model.input}
    logger.info("%s: scoring %d events with one feature after the other exchanged", label, len(rows))
    logits = {}
    if HIGH_LEVEL in inputs:
        scorer, others = _for_new_features(model, inputs)
        for name, features in exchanged_features(inputs[HIGH_LEVEL], keys[rows]):
            logits[name] = _in_batches(scorer, {**others, HIGH_LEVEL: features}, _batch_events(model))
    if takes_particles and data.scaling is not None:
        scorer = _scorer_for(model, len(rows) * len(PARTICLE_GROUPS))
        for name, particles in _exchanged_particles(inputs[PARTICLES], keys[rows], data.scaling):
            logits[name] = _in_batches(scorer, {**inputs, PARTICLES: particles}, _batch_events(model))
    return PermutedScores(rows, logits)


def _for_new_features(model: keras.Model, inputs: Batch) -> tuple[Scorer, Batch]:
    """A scorer for the same events with other high-level features, and what it takes beside these.

    Particles are gone through once: that takes nearly all of the time.
    """
    if PARTICLES not in inputs:
        return _scorer_for(model, len(inputs[HIGH_LEVEL])), inputs
    summary, rest = parts_at_joint(model)
    particles = {PARTICLES: inputs[PARTICLES]}
    summaries = _in_batches(_scorer_for(summary, len(inputs[PARTICLES])), particles, BATCH_EVENTS)
    return make_scorer(rest, xla=False), {summary.output.name: summaries}


def measure_latency(data: TestData, model: keras.Model) -> list[dict[str, float]]:
    """How long a model, which ends before the softmax, takes for batches of scaled test events.

    Compiled for each batch's shape, as one would for a trigger; on GPU it is left to TensorFlow.

    Raises:
        InvalidInputError: A shard is damaged.
    """
    scorer = make_scorer(model, xla=not tf.config.list_logical_devices("GPU"))
    sizes = latency.PARTICLE_BATCHES if PARTICLES in model.input else latency.TABLE_BATCHES
    numbers = np.arange(max(sizes)) % data.split.events
    with Cache() as cache:
        [events] = open_source(data.split, tuple(sorted(model.input)), cache).batches(iter([numbers[np.newaxis]]))

    def caller(size: int) -> Callable[[], object]:
        inputs = {key: events[key][:size] for key in model.input}
        return lambda: scorer(inputs).numpy()

    return latency.measure({size: caller(size) for size in sizes})


def _exchanged_particles(padded: Floats, keys: Keys, scaling: Scaling) -> Iterator[tuple[str, Floats]]:
    """What is exchanged, and all events' particles with it exchanged, (events, 801, 19), zero-padded."""
    events = [rows[: _length(rows)] for rows in padded]
    for name, particles in exchanged_particles(events, keys, scaling):
        changed = np.zeros_like(padded)
        for row, of_event in zip(changed, particles, strict=True):
            row[: len(of_event)] = of_event
        yield name, changed


def _length(rows: Floats) -> int:
    """Particles of an event, (801, 19), that is zero-padded on the right."""
    return int(np.flatnonzero(rows.any(axis=1))[-1]) + 1


def _in_batches(scorer: Scorer, inputs: Batch, size: int) -> Floats:
    """Scores of many events, (events, classes), in batches of one size: another one would be compiled for itself."""
    events = len(next(iter(inputs.values())))
    size = min(size, events)

    def scored(start: int) -> Floats:
        rows = np.arange(start, start + size) % events
        found: Floats = scorer({key: values[rows] for key, values in inputs.items()}).numpy()
        return found

    return np.concatenate([*in_parallel(scored, range(0, events, size))])[:events]


def in_parallel(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Results in the order of items, of which some are worked on at a time."""
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="score") as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _batch_events(model: keras.Model) -> int:
    return BATCH_EVENTS if PARTICLES in model.input else TABLE_BATCH_EVENTS


def _scorer_for(model: keras.Model, events: int) -> Scorer:
    xla = PARTICLES in model.input and events >= XLA_EVENTS and not tf.config.list_logical_devices("GPU")
    return make_scorer(model, xla=xla)


def load_model(run: ModelRun) -> keras.Model:
    """The model on scaled events, of our own layers: the published ones are slower, and need more memory.

    Where the code now makes another model than the one that was trained, it is the published one.

    Raises:
        InvalidInputError: The file is damaged.
    """
    config = load_config(TrainingConfig, json.dumps(run.manifest.config))
    model_file = run.model_file
    assert model_file is not None
    with model_file.fetch() as path:
        try:
            published = scaled_part(keras.models.load_model(path, compile=False), config.model)
            classes = published.output.shape[-1]
            model = build_model(config, classes)
            if different := differences(run.manifest.extra.get("layers", ()), describe_layers(model)):
                logger.warning("%s: scored as it was saved, which is slower: %s", run.label, different)
                return published
            if config.precision != "float32":
                model = build_model(config.model_copy(update={"precision": "float32"}), classes)
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
