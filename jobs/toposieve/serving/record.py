"""Events and decisions as bytes, for streams: everything little endian, floats as IEEE 754, one record a message.

An event (version 1), as it is selected:

    ===========  =====  ====================================================================================
    bytes        type   what
    ===========  =====  ====================================================================================
    4            bytes  ``TSEV``
    2            u16    version of this layout
    2            u16    I, bytes of the event's id
    4            u32    P, particles
    I            UTF-8  the event's id, such as ``ttbar/2026-01-01/a.root:17``
    14 × 4       f32    high-level features, in the order of ``schema.HIGH_LEVEL_FEATURES``, in its units
    P × 38       --     particles: nine f32 (``schema.STORED_PARTICLE_FEATURES``), i8 kind, i8 charge; packed
    4            u32    CRC-32 (as in zlib) of all that comes before
    ===========  =====  ====================================================================================

The lepton is the first particle; the others come in any order. A decision (version 1):

    ===========  =====  ====================================================================================
    4            bytes  ``TSDE``
    2            u16    version of this layout
    2            u16    I, bytes of the event's id
    4            u32    version of the model in the registry
    2            u16    C, classes
    2            u16    accepted: bit i says that the event passes as class i
    I            UTF-8  the event's id
    C × 4        f32    logits, in the order of the model's classes: their softmax is the probability
    4            u32    CRC-32 of all that comes before
    ===========  =====  ====================================================================================

Who reads a record believes no length in it: what does not fit is a fault with a name, and never an error of Python's.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from enum import StrEnum

import numpy as np

from toposieve import schema
from toposieve.io.selected import PARTICLE_RECORD
from toposieve.serving.events import Decision, Event

EVENT_VERSION = DECISION_VERSION = 1
LARGEST_EVENT_ID = 1024
"""Bytes of an event's id."""

_EVENT_MAGIC, _DECISION_MAGIC = b"TSEV", b"TSDE"
_EVENT_HEAD, _DECISION_HEAD = struct.Struct("<4sHHI"), struct.Struct("<4sHHIHH")
_KEY = struct.Struct("<4sH")  # how every record starts, whatever its version
_CHECK = struct.Struct("<I")
_PARTICLE = PARTICLE_RECORD.newbyteorder("<")
_FLOAT = np.dtype("<f4")
_FEATURES = len(schema.HIGH_LEVEL_FEATURES)
_FIXED_BYTES = _EVENT_HEAD.size + _FEATURES * _FLOAT.itemsize + _CHECK.size

LARGEST_EVENT = _FIXED_BYTES + LARGEST_EVENT_ID + schema.MAX_PARTICLES * _PARTICLE.itemsize
"""Bytes of an event's record, at most."""


class Fault(StrEnum):
    """What is wrong with a record."""

    EMPTY = "empty"
    FOREIGN = "no record"
    OTHER_VERSION = "other version"
    CUT_SHORT = "cut short"
    TOO_BIG = "too big"
    DAMAGED = "damaged"
    WRONG_VALUE = "wrong value"


class RecordError(ValueError):
    """A record that cannot be read.

    Attributes:
        fault: What is wrong, of a few.
    """

    def __init__(self, fault: Fault, text: str) -> None:
        """Say what is wrong, and how."""
        super().__init__(f"{fault}: {text}")
        self.fault = fault


def encode_event(event: Event) -> bytes:
    """An event's record.

    Raises:
        RecordError: It is one that :func:`decode_event` would not take.
    """
    name = event.event_id.encode()
    _check_sizes(len(name), len(event.particles))
    if event.high_level.shape != (_FEATURES,):
        raise RecordError(Fault.DAMAGED, f"{event.high_level.shape} features, not ({_FEATURES},)")
    particles = event.particles.astype(_PARTICLE, copy=False)
    _check_values(replace(event, particles=particles))
    head = _EVENT_HEAD.pack(_EVENT_MAGIC, EVENT_VERSION, len(name), len(event.particles))
    return _sealed(head + name + event.high_level.astype(_FLOAT).tobytes() + particles.tobytes())


def decode_event(content: bytes) -> Event:
    """The event of a record.

    Raises:
        RecordError: It is none of this version, or not whole, or has what no event has.
    """
    _check_start(content, _EVENT_MAGIC, EVENT_VERSION, LARGEST_EVENT, _FIXED_BYTES)
    _, _, name, count = _EVENT_HEAD.unpack_from(content)
    _check_sizes(name, count)
    _check_end(content, _FIXED_BYTES + name + count * _PARTICLE.itemsize)
    start = _EVENT_HEAD.size + name
    high_level = np.frombuffer(content, _FLOAT, _FEATURES, start)
    particles = np.frombuffer(content, _PARTICLE, count, start + high_level.nbytes)
    event = Event(_text(content[_EVENT_HEAD.size : start]), high_level, particles)
    _check_values(event)
    return event


def encode_decision(decision: Decision) -> bytes:
    """A decision's record."""
    name, classes = decision.event_id.encode(), len(decision.logits)
    bits = sum(1 << place for place, passes in enumerate(decision.accepted) if passes)
    head = _DECISION_HEAD.pack(_DECISION_MAGIC, DECISION_VERSION, len(name), decision.version, classes, bits)
    return _sealed(head + name + decision.logits.astype(_FLOAT).tobytes())


def decode_decision(content: bytes) -> Decision:
    """The decision of a record.

    Raises:
        RecordError: It is none of this version, or not whole.
    """
    fixed = _DECISION_HEAD.size + _CHECK.size
    _check_start(content, _DECISION_MAGIC, DECISION_VERSION, LARGEST_EVENT, fixed)
    _, _, name, version, classes, bits = _DECISION_HEAD.unpack_from(content)
    _check_end(content, fixed + name + classes * _FLOAT.itemsize)
    start = _DECISION_HEAD.size + name
    logits = np.frombuffer(content, _FLOAT, classes, start)
    accepted = tuple(bool(bits >> place & 1) for place in range(classes))
    return Decision(_text(content[_DECISION_HEAD.size : start]), version, logits, accepted)


# --- what can be wrong -----------------------------------------------------------------------------------------------


def _check_start(content: bytes, magic: bytes, version: int, largest: int, smallest: int) -> None:
    if not content:
        raise RecordError(Fault.EMPTY, "a message of no bytes")
    if len(content) > largest:
        raise RecordError(Fault.TOO_BIG, f"{len(content):,} bytes, {largest:,} at most")
    if content[: len(magic)] != magic[: len(content)]:
        raise RecordError(Fault.FOREIGN, f"starts with {content[: len(magic)]!r}, not with {magic!r}")
    if len(content) >= _KEY.size and (found := _KEY.unpack_from(content)[1]) != version:
        raise RecordError(Fault.OTHER_VERSION, f"version {found}, not {version}")
    if len(content) < smallest:
        raise RecordError(Fault.CUT_SHORT, f"{len(content)} bytes, {smallest} at least")


def _check_sizes(name: int, particles: int) -> None:
    if not name:
        raise RecordError(Fault.EMPTY, "an event without an id")
    if not particles:
        raise RecordError(Fault.EMPTY, "an event without particles")
    if name > LARGEST_EVENT_ID:
        raise RecordError(Fault.TOO_BIG, f"an id of {name:,} bytes, {LARGEST_EVENT_ID:,} at most")
    if particles > schema.MAX_PARTICLES:
        raise RecordError(Fault.TOO_BIG, f"{particles:,} particles, {schema.MAX_PARTICLES} at most")


def _check_end(content: bytes, size: int) -> None:
    if len(content) < size:
        raise RecordError(Fault.CUT_SHORT, f"{len(content):,} of {size:,} bytes")
    if len(content) > size:
        raise RecordError(Fault.DAMAGED, f"{len(content):,} bytes, but {size:,} by its own count")
    if zlib.crc32(memoryview(content)[: -_CHECK.size]) != _CHECK.unpack_from(content, size - _CHECK.size)[0]:
        raise RecordError(Fault.DAMAGED, "its checksum is that of other bytes")


def _check_values(event: Event) -> None:
    if (text := event.wrong_value()) is not None:
        raise RecordError(Fault.WRONG_VALUE, text)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise RecordError(Fault.DAMAGED, "its id is not UTF-8") from None


def _sealed(content: bytes) -> bytes:
    return content + _CHECK.pack(zlib.crc32(content))
