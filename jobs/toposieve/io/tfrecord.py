"""TFRecord files of ``tf.train.Example`` records, written, found and checked without TensorFlow.

The Spark image has no TensorFlow, and its own ``tf.train.Example`` is slow (hundreds of our records a second); this
encoder lays the few bytes of protocol-buffer framing around the arrays itself.
https://www.tensorflow.org/tutorials/load_data/tfrecord describes both formats.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import BinaryIO, TypeAlias

import crc32c
import numpy as np
from numpy.typing import NDArray

Value: TypeAlias = "bytes | int | NDArray[np.float32]"
"""One feature: a byte string, an integer, or a flat array of float32."""

Example: TypeAlias = "bytes | memoryview"
"""A serialised ``tf.train.Example``."""

_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3  # fields of tf.train.Feature
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_CRC_MASK_DELTA = 0xA282EAD8


def encode_example(features: Mapping[str, Value]) -> bytes:
    """Serialise one ``tf.train.Example``, its features in alphabetical order.

    Raises:
        TypeError: A value is neither bytes, an integer nor a float32 array.
    """
    parts: list[bytes | memoryview] = [b""]
    for key in sorted(features):
        kind, content = _content(features[key])
        parts += [_entry_head(key, kind, len(content)), content]
    # Example.features = 1
    parts[0] = _head(1, sum(map(len, parts)))
    return b"".join(parts)


def _content(value: Value) -> tuple[int, bytes | memoryview]:
    """Field of ``tf.train.Feature``, and what its list holds, packed."""
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return _FLOAT_LIST, memoryview(np.ascontiguousarray(value).data).cast("B")
    if isinstance(value, bytes):
        return _BYTES_LIST, value
    if isinstance(value, int | np.integer):
        # Two's complement: a negative number takes ten bytes.
        return _INT64_LIST, _varint(int(value) & 0xFFFFFFFFFFFFFFFF)
    raise TypeError(f"a feature is bytes, an integer or a float32 array, not {type(value).__name__}")


@lru_cache(maxsize=4096)  # few keys, and few lengths: particles are at most some hundreds
def _entry_head(key: str, kind: int, size: int) -> bytes:
    """Everything before the content of one entry of ``Features.feature``, a map: key = 1, value = 2."""
    head = b""
    for field in (1, kind, 2):  # from the inside out: the list's value, the feature's list, the entry's value
        head = _head(field, len(head) + size) + head
    name = key.encode()
    head = _head(1, len(name)) + name + head
    return _head(1, len(head) + size) + head


def _head(field: int, length: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return bytes((field << 3 | 2,)) + _varint(length)


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def decode_example(example: Example, names: Mapping[bytes, str] | None = None) -> dict[str, Value]:
    """Features of a serialised ``tf.train.Example``; of a list of integers or of byte strings, the first.

    Args:
        example: It.
        names: Key → name of the features that are wanted; None for all, under their keys.

    Returns:
        Arrays share the example's memory.

    Raises:
        ValueError: It is none, or its numbers are not packed.
    """
    found: dict[str, Value] = {}
    try:
        start, end = _span(example, 0)
        while start < end:
            inside, stop = _span(example, start)
            head, key, kind = _HEADS.get((start, stop), _NO_HEAD)
            content, last = start + len(head), stop
            if not head or example[start:content] != head:
                key, kind, content, last = _read_head(example, inside)
                if last == stop:
                    _HEADS[start, stop] = bytes(example[start:content]), key, kind
            name = key.decode() if names is None else names.get(key)
            if name is not None:
                found[name] = _decoded(example, kind, content, last)
            start = stop
    except (IndexError, UnicodeDecodeError):
        raise ValueError("is no tf.train.Example") from None
    if len(_HEADS) > _MOST_HEADS:
        _HEADS.clear()
    return found


_NO_HEAD = (b"", b"", 0)
_MOST_HEADS = 2**16
_HEADS: dict[tuple[int, int], tuple[bytes, bytes, int]] = {}
"""Where an entry begins and ends → what such a one had before its content, its key, and the field of its list.

Heads of our records repeat: to compare is quicker than to read lengths within lengths.
"""


def _read_head(example: Example, inside: int) -> tuple[bytes, int, int, int]:
    """Key of an entry, the field of its list, and where the content of that begins and ends."""
    start, stop = _span(example, inside)
    key, feature = bytes(example[start:stop]), _span(example, stop)[0]
    kind, (start, stop) = example[feature] >> 3, _span(example, feature)
    return key, kind, *(_span(example, start) if start < stop or kind == _BYTES_LIST else (start, stop))


def _span(data: Example, position: int) -> tuple[int, int]:
    """Where the content of the length-delimited field at a position begins and ends."""
    length, start = data[position + 1], position + 2
    if length > 0x7F:
        length, start = _number(data, position + 1)
    stop = start + length
    if data[position] & 7 != 2 or stop > len(data):
        raise ValueError("is no tf.train.Example of packed numbers")
    return start, stop


def _number(data: Example, position: int) -> tuple[int, int]:
    """The varint at a position, and what follows it."""
    number = shift = 0
    while True:
        digit = data[position]
        position += 1
        number |= (digit & 0x7F) << shift
        if digit < 0x80:
            return number, position
        shift += 7


def _decoded(data: Example, kind: int, start: int, stop: int) -> Value:
    """The value of a list of some kind, whose content begins and ends there."""
    if kind == _BYTES_LIST:
        return bytes(data[start:stop])
    if kind == _FLOAT_LIST:
        return np.frombuffer(data, "<f4", (stop - start) // 4, start)
    number = _number(data, start)[0]
    return number - (number >> 63 << 64)


def _masked_crc(content: Example) -> int:
    crc = crc32c.crc32c(content)
    return ((crc >> 15 | crc << 17) + _CRC_MASK_DELTA) & 0xFFFFFFFF


def write_record(stream: BinaryIO, record: bytes) -> int:
    """Append one record to an uncompressed TFRecord file that is open for binary writing; the bytes that it takes."""
    length = _LENGTH.pack(len(record))
    frame = (length, _CRC.pack(_masked_crc(length)), record, _CRC.pack(_masked_crc(record)))
    return stream.write(b"".join(frame))


def record_of(frame: Example) -> Example | None:
    """The record in what :func:`write_record` appends, not copied; None if its length or a checksum is wrong."""
    head = _LENGTH.size + _CRC.size
    content = memoryview(frame)[head : -_CRC.size]
    length = _LENGTH.pack(len(content))
    is_sound = frame[:head] == length + _CRC.pack(_masked_crc(length))
    return content if is_sound and frame[-_CRC.size :] == _CRC.pack(_masked_crc(content)) else None
