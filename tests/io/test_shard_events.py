"""A shard's events come back as they were written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io import shard_events
from toposieve.io.manifests import Unit
from toposieve.io.shards import ShardBatch, write_unit
from toposieve.io.store import Key

EVENTS = 23


def make_batch() -> ShardBatch:
    random = np.random.default_rng(1)
    offsets = np.cumsum([0, *random.integers(1, 30, EVENTS)])
    return ShardBatch(
        event_ids=[f"qcd/d/a.root:{number}" for number in range(EVENTS)],
        labels=random.integers(0, 3, EVENTS),
        weights=random.normal(size=EVENTS).astype(np.float32),
        pileup=np.where(np.arange(EVENTS) % 3, 20, schema.NO_PILEUP).astype(np.int32),
        high_level=random.normal(size=(EVENTS, 14)).astype(np.float32),
        offsets=offsets,
        particles=random.normal(size=(offsets[-1], 19)).astype(np.float32),
    )


@pytest.fixture
def written(tmp_path: Path) -> tuple[Key, Unit]:
    folder, identity = Key(str(tmp_path)), {"source": "test/0", "source_checksum": "", "entry_start": 0}
    return folder, write_unit(folder, "test/a.tfrecord", iter([make_batch()]), schema.SAMPLES, **identity)


@pytest.mark.parametrize("particles", [True, False])
def test_what_was_written_comes_back_in_parts(
    written: tuple[Key, Unit], particles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_events, "BATCH_EVENTS", 10)
    parts, expected = [*shard_events.read_shard(*written, particles=particles)], asdict(make_batch())
    assert [len(part.event_ids) for part in parts] == [10, 10, 3]
    if particles:
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        np.testing.assert_array_equal(lengths, np.diff(expected["offsets"]))
    names = ("event_ids", "labels", "weights", "pileup", "high_level", *(["particles"] if particles else []))
    for name in names:
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), expected[name])
    assert particles or not any(len(part.particles) for part in parts)


def test_a_damaged_record_is_named(written: tuple[Key, Unit]) -> None:
    folder, unit = written
    path = Path(str(folder / unit.outputs[0].path))
    content = bytearray(path.read_bytes())
    content[-10] ^= 255
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"a\.tfrecord: record {EVENTS - 1} is damaged"):
        list(shard_events.read_shard(folder, unit))
