"""Selected events → shuffled, scaled TFRecord shards; and our record encoder against TensorFlow's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.jobs import run_job
from benchmarks.measure import measured
from benchmarks.simulation import PARTITION, SELECTED_EVENTS, simulate
from benchmarks.table import Row
from toposieve import schema
from toposieve.io.manifests import read_manifest
from toposieve.io.store import root_key
from toposieve.io.tfrecord import encode_example

ENCODED, ENCODED_BY_TENSORFLOW = 20_000, 200
PARTICLES = 560


def prepare(base: Path) -> None:
    """A dataset of all three samples; what is there is kept."""
    for sample in SELECTED_EVENTS:
        simulate(base, sample)
    run_job("ingest", base, "--partition", PARTITION)
    run_job("select_events", base, "--partition", PARTITION)
    run_job("prepare_features", base, "--partitions", PARTITION, "--dataset", "bench", "--set=balance=false")


def rows(base: Path) -> list[Row]:
    """The Spark job, warm, and the encoders."""
    prepare(base)
    with measured() as usage:
        run_job("prepare_features", base, "--partitions", PARTITION, "--dataset", "measured", "--set=balance=false")
    events = read_manifest(root_key("--base", str(base)) / "datasets" / "measured").total("events")
    return [Row("selected → TFRecord shards on Spark", events, usage), *_encoder_rows()]


def _encoder_rows() -> list[Row]:
    generator = np.random.default_rng(1)
    high_level = generator.random(len(schema.HIGH_LEVEL_FEATURES), dtype=np.float32)
    particles = generator.random(PARTICLES * len(schema.LOW_LEVEL_FEATURES), dtype=np.float32)
    with measured() as slow:
        for _ in range(ENCODED_BY_TENSORFLOW):
            _encode_by_tensorflow(high_level, particles)
    baseline = Row(f"{PARTICLES}-particle record, tf.train.Example", ENCODED_BY_TENSORFLOW, slow)
    with measured() as fast:
        for number in range(ENCODED):
            encode_example({"hlf": high_level, "particles": particles, "length": PARTICLES, "label": number % 3})
    return [baseline, Row(f"{PARTICLES}-particle record, ours", ENCODED, fast, baseline.rate)]


def _encode_by_tensorflow(high_level: NDArray[np.float32], particles: NDArray[np.float32]) -> bytes:
    from tensorflow.core.example.example_pb2 import Example

    example = Example()
    example.features.feature["hlf"].float_list.value.extend(high_level)
    example.features.feature["particles"].float_list.value.extend(particles)
    example.features.feature["length"].int64_list.value.append(PARTICLES)
    example.features.feature["label"].int64_list.value.append(0)
    return example.SerializeToString()
