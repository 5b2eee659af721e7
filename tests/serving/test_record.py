import struct
import zlib
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.streamed_events import random_event
from toposieve import schema
from toposieve.serving.events import Decision
from toposieve.serving.record import (
    LARGEST_EVENT,
    Fault,
    RecordError,
    decode_decision,
    decode_event,
    encode_decision,
    encode_event,
)

EVENT = random_event(1, particles=2)
RECORD = encode_event(EVENT)
DECISION = Decision("a:17", 3, np.array([0.5, -2, 1e-3], np.float32), (False, True, True))
ID_LENGTH, PARTICLES, NAME = 6, 8, 12
"""Where these are in an event's record."""


def seal(body):
    return bytes(body) + struct.pack("<I", zlib.crc32(bytes(body)))


def changed(place, content, record=RECORD):
    """A record whose bytes at a place are others, with a checksum that says so."""
    body = bytearray(record[:-4])
    body[place : place + len(content)] = content
    return seal(body)


def test_an_event_comes_back_as_it_was():
    found = decode_event(RECORD)
    assert found.event_id == EVENT.event_id
    np.testing.assert_array_equal(found.high_level, EVENT.high_level)
    np.testing.assert_array_equal(found.particles, EVENT.particles)


def test_the_layout_is_the_one_that_is_documented():
    """Built by hand, field by field, as another language would."""
    name = b"a.root:7"
    body = b"TSEV" + struct.pack("<HHI", 1, len(name), 1) + name + struct.pack("<14f", *range(14))
    body += struct.pack("<9f2b", 50.0, 1.5, -0.5, 0.1, 0.2, 0.3, 0.01, 0.02, 0.03, 4, -1)
    event = decode_event(seal(body))
    assert event.event_id == "a.root:7"
    assert event.high_level.tolist() == list(range(14))
    names = (*schema.STORED_PARTICLE_FEATURES, schema.PARTICLE_KIND_COLUMN, "Charge")
    expected = [50.0, 1.5, -0.5, 0.1, 0.2, 0.3, 0.01, 0.02, 0.03, 4, -1]
    assert [event.particles[0][each] for each in names] == [np.float32(value) for value in expected]


def test_a_decision_comes_back_as_it_was():
    found = decode_decision(encode_decision(DECISION))
    assert (found.event_id, found.version, found.accepted) == ("a:17", 3, (False, True, True))
    np.testing.assert_array_equal(found.logits, DECISION.logits)


def test_the_layout_of_a_decision_is_the_one_that_is_documented():
    body = b"TSDE" + struct.pack("<HHIHH", 1, 4, 3, 3, 0b110) + b"a:17" + struct.pack("<3f", *DECISION.logits)
    assert encode_decision(DECISION) == seal(body)


@pytest.mark.parametrize(
    ("content", "fault", "text"),
    [
        (b"", Fault.EMPTY, "no bytes"),
        (b"\x00" * (20 << 20), Fault.TOO_BIG, "20,971,520 bytes"),
        (b'{"event": 1}', Fault.FOREIGN, "starts with"),
        (RECORD[:3], Fault.CUT_SHORT, "3 bytes"),
        (RECORD[:-1], Fault.CUT_SHORT, f"{len(RECORD) - 1} of {len(RECORD)} bytes"),
        (RECORD + b"\x00", Fault.DAMAGED, "by its own count"),
        (RECORD[:40] + bytes([RECORD[40] ^ 1]) + RECORD[41:], Fault.DAMAGED, "checksum"),
        (changed(4, struct.pack("<H", 2)), Fault.OTHER_VERSION, "version 2, not 1"),
        (b"TSEV\x02\x00", Fault.OTHER_VERSION, "version 2"),
        (changed(ID_LENGTH, struct.pack("<H", 0)), Fault.EMPTY, "without an id"),
        (changed(ID_LENGTH, struct.pack("<H", 60_000)), Fault.TOO_BIG, "id of 60,000 bytes"),
        (changed(PARTICLES, struct.pack("<I", 0)), Fault.EMPTY, "without particles"),
        (changed(PARTICLES, struct.pack("<I", 802)), Fault.TOO_BIG, "802 particles"),
        (changed(PARTICLES, struct.pack("<I", 2**32 - 1)), Fault.TOO_BIG, "4,294,967,295 particles"),
        (changed(PARTICLES, struct.pack("<I", 3)), Fault.CUT_SHORT, "bytes"),
        (changed(NAME, b"\xff"), Fault.DAMAGED, "not UTF-8"),
    ],
)
def test_each_fault_has_its_name(content, fault, text):
    with pytest.raises(RecordError, match=text) as error:
        decode_event(content)
    assert error.value.fault == fault


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_named(value):
    start = NAME + len(EVENT.event_id)
    with pytest.raises(RecordError, match=f"MET is {value}") as error:
        decode_event(changed(start + 4 * schema.HIGH_LEVEL_FEATURES.index("MET"), struct.pack("<f", value)))
    assert error.value.fault == Fault.WRONG_VALUE
    second = start + 14 * 4 + 38
    with pytest.raises(RecordError, match=f"Phi of particle 1 is {value}"):
        decode_event(changed(second + 8, struct.pack("<f", value)))
    with pytest.raises(RecordError, match="kind of particle 1 is -1"):
        decode_event(changed(second + 9 * 4, b"\xff"))


def test_what_cannot_be_read_is_not_written():
    high_level = EVENT.high_level.copy()
    high_level[0] = np.nan
    with pytest.raises(RecordError, match="HT is nan"):
        encode_event(replace(EVENT, high_level=high_level))
    with pytest.raises(RecordError, match="802 particles"):
        encode_event(random_event(1, particles=802))
    with pytest.raises(RecordError, match="features"):
        encode_event(replace(EVENT, high_level=EVENT.high_level[:13]))


def test_the_largest_event_fits():
    largest = replace(random_event(1, particles=schema.MAX_PARTICLES), event_id="x" * 1024)
    assert len(encode_event(largest)) == LARGEST_EVENT


@given(st.binary(max_size=300), st.integers(0, len(RECORD)), st.integers(0, len(RECORD)))
def test_no_bytes_make_another_error(noise, start, stop):
    """Noise alone, and within a record that is sealed again, so that lengths of any size are looked at."""
    for content in (noise, seal(RECORD[: min(start, stop)] + noise + RECORD[max(start, stop) : -4])):
        for decode in (decode_event, decode_decision):
            with suppress(RecordError):
                decode(content)


@given(st.binary(max_size=100), st.integers(0, 40))
def test_no_bytes_make_another_error_of_a_decision(noise, place):
    with suppress(RecordError):
        decode_decision(changed(place, noise, encode_decision(DECISION)))
