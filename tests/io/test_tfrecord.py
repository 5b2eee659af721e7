"""Our TFRecord encoder against TensorFlow's reader and writer."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from support.training_data import record_offsets
from toposieve.io import tfrecord

RECORDS = [b"", b"first", b"x" * 70_000]

values = st.one_of(
    st.binary(max_size=300),
    st.integers(-(2**63), 2**63 - 1),
    st.lists(st.floats(width=32, allow_nan=False), max_size=100).map(lambda floats: np.array(floats, np.float32)),
)


def write(path: Path, records: list[bytes]) -> Path:
    with path.open("wb") as stream:
        for record in records:
            tfrecord.write_record(stream, record)
    return path


def plain(feature: tf.train.Feature) -> list[object]:
    return list(getattr(feature, feature.WhichOneof("kind")).value)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(min_size=1, max_size=20), values, max_size=6))
def test_tensorflow_parses_what_we_encode(features: dict[str, tfrecord.Value]) -> None:
    example = tfrecord.encode_example(features)
    parsed = tf.train.Example.FromString(example).features.feature
    expected = {name: value.tolist() if isinstance(value, np.ndarray) else [value] for name, value in features.items()}
    assert {name: plain(feature) for name, feature in parsed.items()} == expected
    check_decoded(memoryview(example), features)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(min_size=1, max_size=20), values, min_size=1, max_size=6))
def test_we_decode_what_tensorflow_encodes(features: dict[str, tfrecord.Value]) -> None:
    example = tf.train.Example()
    for name, value in features.items():
        kind = {bytes: "bytes_list", int: "int64_list"}.get(type(value), "float_list")
        numbers = value.tolist() if isinstance(value, np.ndarray) else [value]
        getattr(example.features.feature[name], kind).value.extend(numbers)
    check_decoded(example.SerializeToString(), features)


def check_decoded(example: tfrecord.Example, features: dict[str, tfrecord.Value]) -> None:
    """All features come back, or those that are asked for."""
    decoded = tfrecord.decode_example(example)
    assert decoded.keys() == features.keys()
    for name, value in features.items():
        np.testing.assert_array_equal(decoded[name], value)
        [(role, alone)] = tfrecord.decode_example(example, {name.encode(): "role"}).items()
        assert role == "role"
        np.testing.assert_array_equal(alone, value)


def test_records_of_another_kind_and_the_same_size_are_told_apart() -> None:
    for features in ({"ab": b"1234"}, {"ac": b"1234"}, {"ab": np.ones(1, np.float32)}, {"ab": b"1234"}):
        check_decoded(tfrecord.encode_example(features), features)


@pytest.mark.parametrize("content", [b"abc", b"\x0a\xff", b"\x0a\x05\x0a\x03\x0a\x01", b"\x08\x01", b"\x0a"])
def test_what_is_no_example_is_not_decoded(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"is no tf\.train\.Example"):
        tfrecord.decode_example(content)


def test_a_frame_gives_its_record_back_unless_it_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tfrecord", RECORDS)
    content, offsets = path.read_bytes(), record_offsets(path).tolist()
    for (start, stop), record in zip(pairwise(offsets), RECORDS, strict=True):
        assert tfrecord.record_of(content[start:stop]) == record
    frame = content[offsets[1] : offsets[2]]
    for place in range(len(frame)):
        assert tfrecord.record_of(frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]) is None
        assert tfrecord.record_of(frame[:place]) is None
    assert tfrecord.record_of(frame + b"\0") is None


def test_encoding_does_not_depend_on_the_order_of_features() -> None:
    first = tfrecord.encode_example({"b": 2, "a": b"x"})
    assert first == tfrecord.encode_example({"a": b"x", "b": 2})
    assert first != tfrecord.encode_example({"a": b"x", "b": 3})


def test_slices_of_an_array_are_encoded_by_value() -> None:
    array = np.arange(10, dtype=np.float32)
    parsed = tf.train.Example.FromString(tfrecord.encode_example({"even": array[::2]})).features.feature
    assert plain(parsed["even"]) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("value", [1.5, "text", np.zeros(2), [1, 2]])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="a feature is"):
        tfrecord.encode_example({"x": value})  # type: ignore[dict-item]


def test_tensorflow_reads_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tfrecord", RECORDS)
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == RECORDS


def test_we_write_as_tensorflow_does(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    assert path.read_bytes() == write(tmp_path / "ours.tfrecord", RECORDS).read_bytes()
