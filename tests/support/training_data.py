"""Small datasets in the layout that preparation writes, and one in the published layout."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from toposieve import schema
from toposieve.io.event_tables import TABLE_SCHEMA, TABLE_SUFFIX, write_table
from toposieve.io.manifests import Manifest, Unit, describe_file, manifest_name
from toposieve.io.names import digest
from toposieve.io.store import Key
from toposieve.io.tfrecord import encode_example, write_record


def key_of(directory: Path) -> Key:
    """A folder two levels below a base, as datasets lie there."""
    return Key(str(directory.parents[1]), f"{directory.parent.name}/{directory.name}")


def make_events(
    count: int, *, seed: int = 0, lengths: tuple[int, int] = (5, 30), classes: int = 3
) -> list[dict[str, object]]:
    """Events of separable classes, with weights of mean about 1."""
    rng = np.random.default_rng(seed)
    events = []
    for number in range(count):
        label = number % classes
        length = int(rng.integers(*lengths))
        high_level = rng.normal(size=len(schema.HIGH_LEVEL_FEATURES))
        high_level[label] += 2.0
        particles = rng.normal(size=(length, len(schema.LOW_LEVEL_FEATURES)))
        particles[:, label] += 0.5
        events.append(
            {
                "high_level": high_level.astype(np.float32),
                "particles": particles.astype(np.float32),
                "length": length,
                "label": label,
                "weight": float(rng.uniform(0.5, 1.5)),
                "event_id": f"file.root:{number}".encode(),
            }
        )
    return events


def encode(event: Mapping[str, object], keys: Mapping[str, str] = schema.RECORD_KEYS) -> bytes:
    """One serialised example of the roles in ``keys``; a label that is an array is stored as floats."""
    return encode_example({key: _value(event[role]) for role, key in keys.items()})


def _value(value: object) -> bytes | int | np.ndarray:
    if isinstance(value, bytes | int):
        return value
    return np.asarray(value, np.float32).ravel()


def write_records(path: Path, records: list[bytes]) -> None:
    """Write a TFRecord file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for record in records:
            write_record(stream, record)


def write_dataset(
    directory: Path,
    *,
    train: int = 60,
    validation: int = 24,
    shards: int = 4,
    lengths: tuple[int, int] = (5, 30),
) -> Path:
    """Write a dataset with its manifest; event i of a split goes to shard i modulo shards, in :func:`shard_folder`."""
    units = []
    for seed, (split, count) in enumerate({"train": train, "validation": validation, "test": 8}.items()):
        events = make_events(count, seed=seed, lengths=lengths)
        units += _write_split(directory, split, events, shards)
    save_manifest(directory, units)
    return directory


def shard_folder(directory: Path, split: str) -> Path:
    """Where a dataset of :func:`write_dataset` has the shards of a split."""
    return directory / digest("dataset") / split


def _write_split(directory: Path, split: str, events: list[dict[str, object]], shards: int) -> list[Unit]:
    units = []
    for index in range(shards):
        part = events[index::shards]
        files = write_shard(shard_folder(directory, split) / f"shard-{index:05d}-of-{shards:05d}.tfrecord", part)
        units.append(
            Unit(
                source=f"{split}/{index}",
                source_checksum="",
                entry_start=0,
                entry_stop=len(part),
                counts={"events": len(part)},
                outputs=tuple(describe_file(file, file.relative_to(directory).as_posix()) for file in files),
            )
        )
    return units


def write_shard(path: Path, events: list[dict[str, object]]) -> list[Path]:
    """Write records and the table beside them; both files."""
    write_records(path, [encode(event) for event in events])
    table = path.with_suffix(TABLE_SUFFIX)
    write_table(table, [_table(events, path)])
    return [path, table]


def record_offsets(path: Path) -> np.ndarray:
    """Where each record of a file begins, and where the file ends: (records + 1,)."""
    content, offsets = path.read_bytes(), [0]
    while offsets[-1] < len(content):
        (length,) = struct.unpack_from("<Q", content, offsets[-1])
        offsets.append(offsets[-1] + length + 16)
    return np.array(offsets)


def _table(events: list[dict[str, object]], path: Path) -> pa.RecordBatch:
    columns = {
        "offset": record_offsets(path)[:-1],
        "event_id": [event["event_id"].decode() for event in events],
        "label": [event["label"] for event in events],
        "weight": [event["weight"] for event in events],
        "particles": [event["length"] for event in events],
        "is_electron": [False] * len(events),
        **{name: [event["high_level"][i] for event in events] for i, name in enumerate(schema.HIGH_LEVEL_FEATURES)},
        "pileup": [None] * len(events),
    }
    return pa.RecordBatch.from_pydict(columns, TABLE_SCHEMA)


def save_manifest(directory: Path, units: list[Unit]) -> None:
    """Write a dataset's manifest."""
    manifest = Manifest(
        stage="preparation",
        config_hash="0" * 16,
        config={},
        units=tuple(units),
        code_version="test",
    )
    (directory / manifest_name(1)).write_bytes(manifest.to_bytes())
