"""Evaluation: scores of networks on all cores, and the metrics of ten labels on the published test split.

Each runs in a process of its own, which this file is. Times are those of a clock: all cores are to be used. Scores are
of batches in memory: what reading takes is another part.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, takewhile

import numpy as np
import pyarrow as pa

from benchmarks.bare_loop import limits
from benchmarks.inputs import Bench
from benchmarks.measure import measured
from benchmarks.table import Figure, memory
from toposieve import schema
from toposieve.config import EvaluationConfig
from toposieve.evaluation import importance, performance, slices
from toposieve.evaluation.performance import Sample
from toposieve.io.scores import PermutedScores, probabilities
from toposieve.permutation import TABLE_EVENTS

SCORED = {"hlf": (800_000.0, 1_500_000.0), "inclusive": (12_000.0, 16_000.0)}
"""Model → events per second that must and should be, on two cores."""
SECONDS = 5.0
"""For each model."""

LABELS = 10
TEST_EVENTS = 856_090
"""The published test split; validation has four fifths of it."""
RESAMPLINGS = 200
MUST_SECONDS, SHOULD_SECONDS, MUST_MB = 360.0, 180.0, 2000.0


def rows(bench: Bench) -> Iterator[Figure]:
    """Scores, then metrics."""
    speed = limits(bench.base).speed
    for model, goals in SCORED.items():
        must, stretch = (goal * speed for goal in goals)
        name = f"scores of {model}, two cores, without reading"
        yield Figure(name, _run("score", model), "events/s", must=must, stretch=stretch)
    with measured() as usage:
        seconds = _run("measure", str(TEST_EVENTS))
    name = f"metrics of {LABELS} labels, {TEST_EVENTS:,} events, {RESAMPLINGS} resamplings"
    yield Figure(name, seconds, "s", must=MUST_SECONDS / speed, stretch=SHOULD_SECONDS / speed, at_most=True)
    yield memory("  the same, peak memory", usage.peak_process_bytes, MUST_MB)


def _run(*arguments: str) -> float:
    command = [sys.executable, "-m", "benchmarks.evaluation", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return float(json.loads(done.stdout.splitlines()[-1]))


def score(model: str) -> float:
    """Events per second that a network scores, in batches like those of scoring, compiled as for many events."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    from toposieve.config import TrainingConfig
    from toposieve.evaluation import scoring
    from toposieve.models import ARCHITECTURES, PARTICLES
    from toposieve.training.architectures import build_model
    from toposieve.training.architectures.parts import logits_of
    from toposieve.training.rehearsal import typical_batch

    network = logits_of(build_model(TrainingConfig(model=model), len(schema.SAMPLES)))
    takes_particles = PARTICLES in network.input
    size = scoring.BATCH_EVENTS if takes_particles else scoring.TABLE_BATCH_EVENTS
    batch = typical_batch(size, ARCHITECTURES[model].inputs, len(schema.SAMPLES))
    inputs = {key: batch[key] for key in network.input}
    scorer = scoring.make_scorer(network, xla=takes_particles)
    scorer(inputs).numpy()
    start = time.perf_counter()
    until_then = takewhile(lambda _: time.perf_counter() - start < SECONDS, count())
    batches = sum(1 for _ in scoring.in_parallel(lambda _: scorer(inputs).numpy(), until_then))
    return batches * size / (time.perf_counter() - start)


def measure(events: int) -> float:
    """Seconds that all metrics of a report take, and what it says of differences, stability and importance."""
    validation, test = (_sample(count, seed) for seed, count in enumerate((events * 4 // 5, events)))
    columns = {name: np.random.default_rng(2).uniform(0, 100, events) for name in schema.HIGH_LEVEL_FEATURES}
    tried = np.arange(min(TABLE_EVENTS, events))
    config = EvaluationConfig(bootstrap_samples=RESAMPLINGS)
    start = time.perf_counter()
    found = performance.measure(validation, test, config, dict.fromkeys(schema.SAMPLES, (1000.0, 50.0)))
    performance.summarise_models(found, test)
    performance.summarise_differences(found)
    sliced = slices.quantities(columns, pa.array([f"qcd/{number % 5}/a.root:{number}" for number in range(events)]))
    for place, scores in enumerate(test.scores.values()):
        for label in range(len(schema.SAMPLES)):
            passes = scores[:, label] >= found.thresholds[place, label, 0]
            slices.summarise(sliced, passes, test.labels, test.weights, schema.SAMPLES)
    permuted = {
        label: PermutedScores(tried, dict.fromkeys(schema.HIGH_LEVEL_FEATURES, np.log(scores[tried[::-1]])))
        for label, scores in test.scores.items()
    }
    importance.summarise(test, permuted, config)
    return time.perf_counter() - start


def _sample(events: int, seed: int) -> Sample:
    """Events with scores of some labels, one better than the other."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(schema.SAMPLES), events)
    is_own = np.eye(len(schema.SAMPLES), dtype=np.float32)[labels]
    scores = {}
    for number in range(LABELS):
        logits = random.standard_normal((events, len(schema.SAMPLES)), np.float32) + (2 + number / 5) * is_own
        scores[f"label {number}"] = probabilities(logits)
    return Sample(labels, random.uniform(0.5, 1.5, events), scores, schema.SAMPLES)


def main(what: str, argument: str) -> None:
    """Print the figure."""
    print(json.dumps(score(argument) if what == "score" else measure(int(argument))))


if __name__ == "__main__":
    main(*sys.argv[1:])
