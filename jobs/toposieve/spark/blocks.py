"""Blocks: many events of one shard in one row, as they travel in the shuffle, packed without a copy to spare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve import schema
from toposieve.io.selected import PARTICLE_RECORD

BLOCK_BYTES = 4 << 20
"""Most bytes in a block, and in the rows that Spark is handed at a time; an event more, at most."""

BUFFERED_BYTES = 64 << 20
"""Bytes that wait in a task to become blocks. The more shards, the smaller the blocks."""

BLOCK_ROW = "shard int, sources array<string>, events binary, particles binary"

EVENT_RECORD = np.dtype(
    [
        ("shuffle_key", np.uint64),
        ("entry", np.int64),
        ("source", np.int32),  # position in the block's file ids
        ("length", np.int32),
        ("weight", np.float32),
        ("pileup", np.int32),
        ("high_level", np.float32, (len(schema.HIGH_LEVEL_FEATURES),)),
    ]
)
"""One event, but for its particles."""

Records = NDArray[np.void]
Bytes = NDArray[np.uint8]  # numpy joins structured arrays at a tenth of the speed


@dataclass
class Block:
    """Events of a shard that wait to be packed."""

    sources: dict[str, int] = field(default_factory=dict)
    events: list[Bytes] = field(default_factory=list)
    particles: list[Bytes] = field(default_factory=list)
    bytes: int = 0

    def add(self, source: str, events: Records, particles: list[Bytes]) -> int:
        """Add events of a file, with the particles of each; returns their bytes."""
        events["source"] = self.sources.setdefault(source, len(self.sources))
        size = events.nbytes + sum(map(len, particles))
        self.events.append(events.view(np.uint8))
        self.particles += particles
        self.bytes += size
        return size


def pack(pieces: Iterable[tuple[int, str, Records, list[Bytes]]]) -> Iterator[pa.RecordBatch]:
    """Rows of ``BLOCK_ROW``, in bounded memory.

    Args:
        pieces: Shard, file id, events (:data:`EVENT_RECORD`), and the particles of each as bytes.
    """
    waiting, size = dict[int, Block](), 0
    for shard, source, events, particles in pieces:
        block = waiting.setdefault(shard, Block())
        size += block.add(source, events, particles)
        if block.bytes >= BLOCK_BYTES:
            size -= block.bytes
            yield _rows({shard: waiting.pop(shard)})
        elif size >= BUFFERED_BYTES:
            yield from _flush(waiting)
            size = 0
    yield from _flush(waiting)


def _flush(waiting: dict[int, Block]) -> Iterator[pa.RecordBatch]:
    while waiting:
        taken, size = dict[int, Block](), 0
        while waiting and size < BLOCK_BYTES:
            shard, taken_block = waiting.popitem()
            taken[shard] = taken_block
            size += taken_block.bytes
        yield _rows(taken)


def _rows(blocks: Mapping[int, Block]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "shard": np.array(list(blocks), np.int32),
            "sources": pa.array([list(block.sources) for block in blocks.values()], pa.list_(pa.string())),
            "events": _binary([block.events for block in blocks.values()]),
            "particles": _binary([block.particles for block in blocks.values()]),
        }
    )


def _binary(rows: list[list[Bytes]]) -> pa.Array:
    """Binary column: each row's pieces behind each other, copied once."""
    content = np.concatenate([piece for row in rows for piece in row])
    bounds = np.cumsum([0, *(sum(map(len, row)) for row in rows)], dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(bounds), pa.py_buffer(content)])


@dataclass(frozen=True)
class ShardEvents:
    """The events of a shard, in the shard's order.

    Attributes:
        sources: File id of each.
        events: :data:`EVENT_RECORD`; ``source`` counts the file ids in their order.
        particles: Of each event, :data:`~toposieve.io.selected.PARTICLE_RECORD` as bytes.
    """

    sources: list[str]
    events: Records
    particles: list[Bytes]


def unpack(batches: Iterable[pa.RecordBatch]) -> ShardEvents:
    """The events of a shard's blocks, ordered by shuffle key, file id and entry.

    Args:
        batches: At least one row of ``BLOCK_ROW``, all of one shard; their memory is used on.
    """
    sources, events, particles = list[str](), list[Records](), list[Bytes]()
    for batch in batches:
        for i, names in enumerate(batch.column("sources").to_pylist()):
            block = np.frombuffer(batch.column("events")[i].as_buffer(), EVENT_RECORD)
            content = np.frombuffer(batch.column("particles")[i].as_buffer(), np.uint8)
            bounds = np.cumsum([0, *block["length"]]) * PARTICLE_RECORD.itemsize
            events.append(block)
            sources += [names[source] for source in block["source"]]
            particles += [content[start:stop] for start, stop in pairwise(bounds.tolist())]
    every = np.concatenate(events)
    ranks = np.unique(sources, return_inverse=True)[1]
    order = np.lexsort((every["entry"], ranks, every["shuffle_key"]))
    return ShardEvents([sources[i] for i in order], every[order], [particles[i] for i in order])
