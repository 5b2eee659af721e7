"""TFRecord examples → padded arrays, for our own records and for the published ones. No TensorFlow here.

Which key plays which role is configurable. Where a record has no weight it is 1. Particles that are all zero at its end
are padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.io.tfrecord import Example, Value, decode_example
from toposieve.models import HIGH_LEVEL, PARTICLES

PARTICLE_FEATURES = len(schema.LOW_LEVEL_FEATURES)
CLASSES = len(schema.LABELS)
EVENT_ID = "event_id"

Batch: TypeAlias = dict[str, Any]
"""Role → array or tensor, a row for each event."""

Floats = NDArray[np.float32]


class BadRecordError(ValueError):
    """A record cannot be used.

    Args:
        place: Which of those that were to be read.
        cause: What is wrong with it.
    """

    def __init__(self, place: int, cause: str) -> None:
        """Keep the place; the cause is the text."""
        super().__init__(cause)
        self.place = place


@dataclass(frozen=True)
class RecordReader:
    """How to read one kind of records."""

    keys: Mapping[str, str]
    """Role → key; roles that neither the records have nor the model takes are left out."""

    @cached_property
    def _roles(self) -> dict[bytes, str]:
        return {key.encode(): role for role, key in self.keys.items()}

    def read(self, examples: Sequence[Example]) -> Batch:
        """Parse serialised examples; an empty string becomes an event that counts for nothing.

        Returns:
            The model's inputs among ``high_level`` (batch, 14) and ``particles`` (batch, 801, 19), and ``label``
            int64, ``weight`` float32 and ``present`` float32 (0 for an event that is not there), (batch,) each;
            ``event_id`` bytes, (batch,), where asked for.

        Raises:
            BadRecordError: A record lacks a key, or holds what training cannot use.
        """
        batch = self._nothing(len(examples))
        for place, example in enumerate(examples):
            try:
                if example:
                    self._fill(batch, place, example)
            except (ValueError, TypeError) as error:
                raise BadRecordError(place, str(error)) from None
        return batch

    def _nothing(self, rows: int) -> Batch:
        """Events that count for nothing, with one particle each: no recurrent layer sees an event without any."""
        batch: Batch = {name: np.zeros(rows, np.float32) for name in ("weight", "present")}
        batch["label"] = np.zeros(rows, np.int64)
        if HIGH_LEVEL in self.keys:
            batch[HIGH_LEVEL] = np.zeros((rows, len(schema.HIGH_LEVEL_FEATURES)), np.float32)
        if PARTICLES in self.keys:
            batch[PARTICLES] = np.zeros((rows, schema.MAX_PARTICLES, PARTICLE_FEATURES), np.float32)
            batch[PARTICLES][:, 0] = 1.0
        if EVENT_ID in self.keys:
            batch[EVENT_ID] = np.full(rows, b"", object)
        return batch

    def _fill(self, batch: Batch, place: int, example: Example) -> None:
        values = decode_example(example, self._roles)
        missing = self.keys.keys() - values.keys()
        if missing:
            raise ValueError(f"no key {', '.join(sorted(self.keys[role] for role in missing))}")
        batch["label"][place] = _label(values["label"])
        batch["weight"][place] = _floats(values, "weight")[0] if "weight" in values else 1.0
        batch["present"][place] = 1.0
        if HIGH_LEVEL in batch:
            batch[HIGH_LEVEL][place] = _floats(values, HIGH_LEVEL)
        if PARTICLES in batch:
            _fill_particles(batch[PARTICLES][place], _floats(values, PARTICLES), values.get("length"))
        if EVENT_ID in batch:
            batch[EVENT_ID][place] = values[EVENT_ID]


def _label(stored: Value) -> int:
    label = int(np.argmax(stored)) if isinstance(stored, np.ndarray) else int(stored)
    if not 0 <= label < CLASSES:
        raise ValueError("label out of range")
    return label


def _floats(values: Mapping[str, Value], role: str) -> Floats:
    floats = values[role]
    if not isinstance(floats, np.ndarray) or not np.isfinite(floats).all():
        raise ValueError(f"NaN, infinity or no number in {role}")
    return floats


def _fill_particles(row: Floats, stored: Floats, length: Value | None) -> None:
    """Write an event's particles to its row, (801, 19); padding is zero on the right."""
    if length is not None and stored.size != length * PARTICLE_FEATURES:
        raise ValueError("length is not the number of stored particles")
    if stored[row.size :].any():
        raise ValueError("too many particles")
    row[0] = 0.0
    row.reshape(-1)[: stored.size] = stored[: row.size]


def reader_for(shard: Key, first: Example, keys: Mapping[str, str], inputs: tuple[str, ...]) -> RecordReader:
    """Look at a record and say how to read all like it.

    Args:
        shard: Where it is from.
        first: It.
        keys: Role → key, as configured.
        inputs: Roles that the model takes; ``event_id`` too, by whoever wants it.

    Raises:
        InvalidInputError: A role is unknown or not configured, or the record lacks its key or has other numbers in it.
    """
    unknown = sorted(set(keys) - set(schema.RECORD_KEYS))
    if unknown:
        raise InvalidInputError(
            f"record_keys: unknown role {', '.join(unknown)}; known: {', '.join(schema.RECORD_KEYS)}"
        )
    optional = ("weight", "length") if PARTICLES in inputs else ("weight",)
    wanted = {role: keys[role] for role in (*inputs, "label", *optional) if role in keys}
    for role in (*inputs, "label"):
        if role not in wanted:
            raise InvalidInputError(f"record_keys names no key for {role}, which the model needs")
    try:
        record = decode_example(first)
    except ValueError as error:
        raise InvalidInputError(f"{shard}: its first record {error}; write it again") from None
    for role, key in wanted.items():
        if key not in record:
            has = ", ".join(sorted(record))
            raise InvalidInputError(
                f"{shard}: no key {key!r} ({role}) in its records, which have {has}; set record_keys"
            )
    _check_widths(shard, wanted, record)
    return RecordReader(wanted)


def _check_widths(shard: Key, wanted: Mapping[str, str], record: Mapping[str, Value]) -> None:
    if HIGH_LEVEL in wanted:
        found = np.size(record[wanted[HIGH_LEVEL]])
        if found != len(schema.HIGH_LEVEL_FEATURES):
            raise InvalidInputError(
                f"{shard}: key {wanted[HIGH_LEVEL]!r} holds {found} floats, not {len(schema.HIGH_LEVEL_FEATURES)}"
            )
    if PARTICLES in wanted:
        found = np.size(record[wanted[PARTICLES]])
        if found == 0 or found % PARTICLE_FEATURES:
            raise InvalidInputError(
                f"{shard}: key {wanted[PARTICLES]!r} holds {found} floats, not a multiple of {PARTICLE_FEATURES}"
            )
