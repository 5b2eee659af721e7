from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from support.training_data import as_published, encode, make_events, write_records
from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.training.records import Batch, RecordReader, reader_for

OURS = schema.RECORD_KEYS
PUBLISHED = schema.PUBLISHED_RECORD_KEYS
BOTH = ("high_level", "particles")
SHARD = "shard.tfrecord"


@pytest.fixture
def events() -> list[dict[str, object]]:
    return make_events(6, lengths=(5, 30))


def reader_of(path: Path, records: list[bytes], keys: Mapping[str, str], inputs: tuple[str, ...]) -> RecordReader:
    write_records(path / SHARD, records)
    return reader_for(Key(str(path)) / SHARD, path / SHARD, keys, inputs)


def read(reader: RecordReader, records: list[bytes]) -> Batch:
    return {name: tensor.numpy() for name, tensor in tf.function(reader.read)(tf.constant(records)).items()}


def read_ours(tmp_path: Path, events: list[dict[str, object]], inputs: tuple[str, ...] = BOTH) -> Batch:
    records = [encode(event) for event in events]
    return read(reader_of(tmp_path, records, OURS, inputs), records)


def test_our_records_are_read_whole(tmp_path: Path, events: list[dict[str, object]]) -> None:
    batch = read_ours(tmp_path, events)
    for row, event in enumerate(events):
        np.testing.assert_array_equal(batch["high_level"][row], event["high_level"])
        np.testing.assert_array_equal(batch["particles"][row, : event["length"]], event["particles"])
        assert not batch["particles"][row, event["length"] :].any()
    np.testing.assert_array_equal(batch["label"], [event["label"] for event in events])
    np.testing.assert_allclose(batch["weight"], [event["weight"] for event in events])
    np.testing.assert_array_equal(batch["present"], 1.0)


def test_the_longest_event_fits_and_no_longer_one(tmp_path: Path) -> None:
    longest = make_events(1, lengths=(801, 802))
    assert read_ours(tmp_path, longest)["particles"].all()
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many particles"):
        read_ours(tmp_path, make_events(1, lengths=(802, 803)))


def test_a_model_without_particles_does_not_read_them(tmp_path: Path, events: list[dict[str, object]]) -> None:
    assert set(read_ours(tmp_path, events, ("high_level",))) == {"high_level", "label", "weight", "present"}


def test_an_empty_record_counts_for_nothing(tmp_path: Path, events: list[dict[str, object]]) -> None:
    records = [encode(event) for event in events]
    batch = read(reader_of(tmp_path, records, OURS, BOTH), ["", records[1]])
    np.testing.assert_array_equal(batch["present"], [0.0, 1.0])
    np.testing.assert_allclose(batch["weight"], [0.0, events[1]["weight"]])
    assert batch["particles"][0, 0].all()  # one particle: cuDNN takes no empty sequence
    assert not batch["particles"][0, 1:].any()


def test_published_records_give_the_same_as_ours(tmp_path: Path, events: list[dict[str, object]]) -> None:
    records = [encode(as_published(event), PUBLISHED) for event in events]
    batch = read(reader_of(tmp_path, records, PUBLISHED, BOTH), [*records, b""])
    ours = read_ours(tmp_path, events)
    for name in ("high_level", "particles", "label"):
        np.testing.assert_array_equal(batch[name][:-1], ours[name])
    np.testing.assert_array_equal(batch["weight"], [1.0] * len(events) + [0.0])


def test_zeros_between_particles_are_kept(tmp_path: Path, events: list[dict[str, object]]) -> None:
    event = as_published(events[0])
    event["particles"] = event["particles"].copy()
    event["particles"][70] = 1.0
    records = [encode(event, PUBLISHED)]
    batch = read(reader_of(tmp_path, records, PUBLISHED, BOTH), records)
    assert batch["particles"][0, 70].all()


def test_an_event_without_any_particle_is_read(tmp_path: Path, events: list[dict[str, object]]) -> None:
    event = {**events[0], "particles": np.zeros((0, 19)), "length": 0}
    records = [encode(events[1]), encode(event)]
    batch = read(reader_of(tmp_path, records, OURS, BOTH), records)
    assert not batch["particles"][1].any()
    assert batch["present"][1] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 3}, "label out of range"),
        ({"label": -1}, "label out of range"),
        ({"length": 4}, "length is not the number of stored particles"),
        ({"high_level": np.full(14, np.nan)}, "in high_level"),
        ({"particles": np.full((5, 19), np.inf), "length": 5}, "in particles"),
        ({"weight": float("nan")}, "in weight"),
    ],
)
def test_bad_values_are_refused(
    tmp_path: Path, events: list[dict[str, object]], change: dict[str, object], message: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        read_ours(tmp_path, [events[0], {**events[1], **change}])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({**OURS, "hlf": "hlf"}, "unknown role hlf"),
        ({"label": "label"}, "no key for high_level"),
        ({**OURS, "label": "target"}, r"no key 'target' \(label\).*hlf, label, length, particles, weight"),
        ({**OURS, "high_level": "particles"}, "'particles' holds .* floats, not 14"),
        ({**OURS, "particles": "hlf"}, "'hlf' holds 14 floats, not a multiple of 19"),
    ],
)
def test_keys_that_do_not_fit_are_refused(
    tmp_path: Path, events: list[dict[str, object]], keys: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        reader_of(tmp_path, [encode(events[0])], keys, BOTH)


def test_a_shard_without_records_or_without_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no records"):
        reader_of(tmp_path, [], OURS, BOTH)
    (tmp_path / SHARD).write_bytes(b"not a TFRecord file")
    with pytest.raises(InvalidInputError, match=f"{SHARD} cannot be read"):
        reader_for(Key(str(tmp_path)) / SHARD, tmp_path / SHARD, OURS, BOTH)
