"""TFRecord examples → padded arrays. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.io.tfrecord import Example, Value, decode_example
from toposieve.models import HIGH_LEVEL, PARTICLES

PARTICLE_FEATURES = len(schema.LOW_LEVEL_FEATURES)
EVENT_ID = "event_id"

Batch: TypeAlias = dict[str, Any]
"""Role → array or tensor, a row for each event."""

Floats = NDArray[np.float32]

_ONE_PARTICLE = np.ones(PARTICLE_FEATURES, np.float32)
"""Of an event that is not there: no recurrent layer sees one without any."""


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
    """Reads of each record what is wanted."""

    inputs: tuple[str, ...]
    """Roles that the model takes; ``event_id`` too, by whoever wants it."""
    classes: int
    """How many the dataset has."""

    @cached_property
    def _roles(self) -> dict[bytes, str]:
        wanted = {*self.inputs, "label", "weight", *(("length",) if PARTICLES in self.inputs else ())}
        return {key.encode(): role for role, key in schema.RECORD_KEYS.items() if role in wanted}

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
        with np.errstate(over="ignore", invalid="ignore"):
            for place, example in enumerate(examples):
                try:
                    if example:
                        self._fill(batch, place, example)
                    elif PARTICLES in batch:
                        _fill_particles(batch[PARTICLES][place], _ONE_PARTICLE, 1)
                except (ValueError, TypeError) as error:
                    raise BadRecordError(place, str(error)) from None
        return batch

    def _nothing(self, rows: int) -> Batch:
        """Events that count for nothing; of their particles nothing is said yet."""
        batch: Batch = {name: np.zeros(rows, np.float32) for name in ("weight", "present")}
        batch["label"] = np.zeros(rows, np.int64)
        if HIGH_LEVEL in self.inputs:
            batch[HIGH_LEVEL] = np.zeros((rows, len(schema.HIGH_LEVEL_FEATURES)), np.float32)
        if PARTICLES in self.inputs:
            batch[PARTICLES] = np.empty((rows, schema.MAX_PARTICLES, PARTICLE_FEATURES), np.float32)
        if EVENT_ID in self.inputs:
            batch[EVENT_ID] = np.full(rows, b"", object)
        return batch

    def _fill(self, batch: Batch, place: int, example: Example) -> None:
        values = decode_example(example, self._roles)
        missing = [key.decode() for key, role in self._roles.items() if role not in values]
        if missing:
            raise ValueError(f"no key {', '.join(missing)}")
        batch["label"][place] = self._label(values["label"])
        batch["weight"][place] = _finite(_floats(values, "weight", 1), "weight")[0]
        batch["present"][place] = 1.0
        if HIGH_LEVEL in batch:
            features = batch[HIGH_LEVEL][place]
            features[:] = _finite(_floats(values, HIGH_LEVEL, len(features)), HIGH_LEVEL)
        if PARTICLES in batch:
            _fill_particles(batch[PARTICLES][place], _floats(values, PARTICLES), values["length"])
        if EVENT_ID in batch:
            batch[EVENT_ID][place] = values[EVENT_ID]

    def _label(self, stored: Value) -> int:
        if not isinstance(stored, int) or not 0 <= stored < self.classes:
            raise ValueError("label out of range")
        return stored


def _floats(values: Mapping[str, Value], role: str, count: int | None = None) -> Floats:
    floats = values[role]
    if not isinstance(floats, np.ndarray):
        raise ValueError(f"no floats in {role}")
    if count is not None and floats.size != count:
        raise ValueError(f"{floats.size} floats in {role}, not {count}")
    return floats


def _finite(floats: Floats, role: str) -> Floats:
    # A sum of finite numbers may overflow, but none of others is finite: a fifth of the time.
    if not np.isfinite(np.add.reduce(floats)) and not np.isfinite(floats).all():
        raise ValueError(f"NaN or infinity in {role}")
    return floats


def _fill_particles(row: Floats, stored: Floats, length: Value) -> None:
    """Write an event's particles to its row, (801, 19); padding is zero on the right."""
    if stored.size != length * PARTICLE_FEATURES:
        raise ValueError("length is not the number of stored particles")
    flat = row.reshape(-1)  # (801 * 19,)
    if stored.size > flat.size:
        raise ValueError("too many particles")
    # As bytes: numbers that do not lie at multiples of their size are copied one by one.
    flat[: stored.size].view(np.uint8)[:] = stored.view(np.uint8)
    flat[stored.size :] = 0.0
    _finite(flat[: stored.size], PARTICLES)
