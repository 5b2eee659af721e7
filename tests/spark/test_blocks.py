"""Blocks of events, packed and unpacked."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from toposieve.io.selected import PARTICLE_RECORD
from toposieve.spark import blocks
from toposieve.spark.blocks import EVENT_RECORD, pack, unpack

FILES = ("qcd/b.root", "qcd/a.root")
SHARDS = 3
SIZE = PARTICLE_RECORD.itemsize


def pieces(events: int = 200) -> list[tuple[int, str, np.ndarray, list[np.ndarray]]]:
    """A few events at a time, file by file, of every shard."""
    random = np.random.default_rng(1)
    found = []
    for file in FILES:
        records = np.zeros(events, EVENT_RECORD)
        records["shuffle_key"], records["entry"] = random.integers(0, 50, events), np.arange(events)
        records["length"], records["weight"] = random.integers(1, 9, events), random.random(events)
        content = random.integers(0, 256, int(records["length"].sum()) * SIZE, np.uint8)
        bounds = list(pairwise(np.cumsum([0, *records["length"] * SIZE]).tolist()))
        for start in range(0, events, 5):
            rows = range(start, start + 5)
            found.append(
                (start // 5 % SHARDS, file, records[start : start + 5], [content[slice(*bounds[i])] for i in rows])
            )
    return found


def packed() -> list[pa.RecordBatch]:
    return list(pack(pieces()))


def of_shard(batches: list[pa.RecordBatch], shard: int) -> list[pa.RecordBatch]:
    rows = (batch.slice(i, 1) for batch in batches for i in range(batch.num_rows))
    return [row for row in rows if row.column("shard")[0].as_py() == shard]


@pytest.mark.parametrize(
    ("block", "buffered"), [(4 << 20, 64 << 20), (3_000, 64 << 20), (4 << 20, 6_000), (1, 1)], ids=str
)
def test_events_come_back_in_order_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch, block: int, buffered: int
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block)
    monkeypatch.setattr(blocks, "BUFFERED_BYTES", buffered)
    batches = packed()
    for shard in range(SHARDS):
        expected = sorted(
            (int(event["shuffle_key"]), file, int(event["entry"]), float(event["weight"]), particles.tobytes())
            for number, file, events, of_events in pieces()
            if number == shard
            for event, particles in zip(events, of_events, strict=True)
        )
        found = unpack(reversed(of_shard(batches, shard)))
        rows = zip(found.sources, found.events, found.particles, strict=True)
        assert [
            (int(event["shuffle_key"]), file, int(event["entry"]), float(event["weight"]), particles.tobytes())
            for file, event, particles in rows
        ] == expected


def test_blocks_are_bounded_and_so_is_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 5 * (8 * SIZE + EVENT_RECORD.itemsize)  # of one piece
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4_000)
    assert max(batch.nbytes for batch in packed()) < 4_000 + most + 100
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 30)
    monkeypatch.setattr(blocks, "BUFFERED_BYTES", 6_000)
    batches = packed()
    assert max(batch.nbytes for batch in batches) < 6_000 + most + 1_000
    assert {batch.num_rows for batch in batches[:-1]} == {SHARDS}
