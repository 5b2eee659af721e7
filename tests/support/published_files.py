"""Files as published with arXiv:1909.10389: zero-padded particles and a one-hot label, in TFRecord, gzip or Parquet."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from support.training_data import encode, make_events, write_records
from toposieve import schema

KINDS = ("tfrecord", "gzip", "parquet")
KEYS = {"high_level": "HLF_input", "particles": "GRU_input", "label": "encoded_label"}

Event = Mapping[str, object]


def as_published(event: Event, classes: int = 3) -> dict[str, object]:
    """The same event with 801 zero-padded particles and a one-hot label."""
    particles = np.asarray(event["particles"])
    padded = np.zeros((schema.MAX_PARTICLES, particles.shape[1]), np.float32)
    padded[: len(particles)] = particles
    return {**event, "particles": padded, "label": np.eye(classes, dtype=np.float32)[event["label"]]}


def write_file(path: Path, events: Sequence[Event], kind: str = "tfrecord") -> None:
    """Write events, which are as published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        pq.write_table(
            pa.table({key: _column([event[role] for event in events], role) for role, key in KEYS.items()}), path
        )
        return
    write_records(path, [encode(event, KEYS) for event in events])
    if kind == "gzip":
        with path.open("rb") as plain, gzip.open(f"{path}.gz", "wb") as packed:
            shutil.copyfileobj(plain, packed)
        path.unlink()


def _column(values: Sequence[object], role: str) -> pa.Array:
    """As Spark writes arrays of double; particles are arrays of arrays, unless they come flat."""
    nested = role == "particles" and all(np.ndim(value) == 2 for value in values)
    kind = pa.list_(pa.list_(pa.float64())) if nested else pa.list_(pa.float64())
    return pa.array([np.asarray(value, np.float64).tolist() for value in values], kind)


def write_published(
    folder: Path, kind: str = "tfrecord", *, train: Sequence[int] = (0, 40, 17), test: int = 12, classes: int = 3
) -> None:
    """Write ``train/`` and ``test/``, the former in uneven files, the first of them empty."""
    for number, (split, count) in enumerate([*(("train", count) for count in train), ("test", test)]):
        events = [as_published(event, classes) for event in make_events(count, seed=number, classes=classes)]
        write_file(folder / split / f"part-r-{number:05d}", events, kind)
    (folder / "train" / "_SUCCESS").touch()
