"""TFRecord files of ``tf.train.Example`` records, written and counted without TensorFlow.

The Spark image has no TensorFlow, and its own ``tf.train.Example`` is slow (hundreds of our records a second); this
encoder lays the few bytes of protocol-buffer framing around the arrays itself.
https://www.tensorflow.org/tutorials/load_data/tfrecord describes both formats.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypeAlias

import crc32c
import numpy as np
from numpy.typing import NDArray

from toposieve.errors import InvalidInputError

Value: TypeAlias = "bytes | int | NDArray[np.float32]"
"""One feature: a byte string, an integer, or a flat array of float32."""

_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3  # fields of tf.train.Feature
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_CRC_MASK_DELTA = 0xA282EAD8
_GZIP_MAGIC = b"\x1f\x8b"


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


def _masked_crc(content: bytes) -> int:
    crc = crc32c.crc32c(content)
    return ((crc >> 15 | crc << 17) + _CRC_MASK_DELTA) & 0xFFFFFFFF


def write_record(stream: BinaryIO, record: bytes) -> int:
    """Append one record to an uncompressed TFRecord file that is open for binary writing; the bytes that it takes."""
    length = _LENGTH.pack(len(record))
    frame = (length, _CRC.pack(_masked_crc(length)), record, _CRC.pack(_masked_crc(record)))
    return stream.write(b"".join(frame))


def record_count(path: Path) -> int:
    """Count records by walking over their lengths; TensorFlow compares the checksums when it reads them.

    Raises:
        InvalidInputError: The file is compressed with gzip, or ends within a record.
    """
    size = path.stat().st_size
    records = position = 0
    with path.open("rb") as stream:
        while position < size:
            stream.seek(position)
            header = stream.read(_LENGTH.size)
            length = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else size
            position += _LENGTH.size + _CRC.size + length + _CRC.size
            records += 1
    if position != size:
        with path.open("rb") as stream:
            if stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC:
                raise InvalidInputError(f"{path} is compressed with gzip: unpack it (gunzip -c OLD > NEW)")
        raise InvalidInputError(f"{path} is cut short: record {records - 1} is incomplete; copy or write it again")
    return records
