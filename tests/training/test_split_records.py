import re
from pathlib import Path

import numpy as np
import pytest

from support.copying_store import copying_store
from support.training_data import encode, key_of, make_events, shard_folder, write_dataset
from toposieve.errors import InvalidInputError
from toposieve.training.cache import Cache
from toposieve.training.shards import Shard, Split, open_dataset, record_offsets
from toposieve.training.split_records import SplitRecords

EVENTS, SHARDS = 22, 5
BY_NUMBER = [encode(event) for shard in range(SHARDS) for event in make_events(EVENTS)[shard::SHARDS]]
WANTED = np.array([21, 0, 7, 8, 3, 21, 5])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "d", train=EVENTS, shards=SHARDS)


def read(split: Split, numbers: np.ndarray = WANTED) -> list[bytes]:
    with Cache() as cache:
        return [bytes(record) for record in SplitRecords(split, cache).read(numbers)]


def test_records_come_by_their_numbers_in_any_order(directory: Path) -> None:
    assert read(open_dataset(key_of(directory)).train) == [BY_NUMBER[number] for number in WANTED]


def test_an_empty_shard_has_no_numbers(tmp_path: Path) -> None:
    split = open_dataset(key_of(write_dataset(tmp_path / "d", train=3, validation=3, shards=7))).train
    assert read(split, np.arange(3)) == [encode(event) for event in make_events(3)]


def test_shards_elsewhere_are_read_alike(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, store = copying_store(directory.parent, monkeypatch)
    split = open_dataset(root / "d").train
    assert all(shard.key.is_remote for shard in split.shards)
    assert read(split) == [BY_NUMBER[number] for number in WANTED]
    assert sum(name.endswith(".tfrecord") for name in store.fetched) == 3  # one request for each shard that is read


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, 9, 200, -1])
def test_a_flipped_bit_is_noticed_where_it_is(directory: Path, place: int) -> None:
    """In a length, in its checksum, in a record, in its checksum."""
    split = open_dataset(key_of(directory)).train
    flip(shard_folder(directory, "train") / "shard-00003-of-00005.tfrecord", place)
    record = 3 if place < 0 else 0
    with pytest.raises(InvalidInputError, match=rf"shard-00003-of-00005.tfrecord: record {record} is damaged"):
        read(split, np.arange(EVENTS))


@pytest.mark.parametrize("kept", [0, 100])
def test_a_shard_cut_short_is_noticed(directory: Path, kept: int) -> None:
    split = open_dataset(key_of(directory)).train
    path = shard_folder(directory, "train") / "shard-00003-of-00005.tfrecord"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InvalidInputError, match=r"shard-00003-of-00005.tfrecord: record 0 is damaged"):
        read(split, np.arange(EVENTS))


def offsets_or_complaint(shard: Shard) -> str:
    try:
        return str(record_offsets(shard))
    except InvalidInputError as error:
        return re.sub(r"[(:].*", "", str(error))


def test_a_flipped_bit_in_a_table_is_noticed(directory: Path) -> None:
    """Anywhere in the column of offsets, its page's header included, unless it says nothing."""
    shard = open_dataset(key_of(directory)).train.shards[2]
    expected, path, found = str(record_offsets(shard)), Path(str(shard.table)), []
    for place in range(4, 60):
        flip(path, place)
        found.append(offsets_or_complaint(shard))
        flip(path, place)
    assert set(found) == {expected, f"{path} is damaged ", f"{path} has 0 rows, not 4"}


def test_a_shard_that_is_gone_is_named(directory: Path) -> None:
    split = open_dataset(key_of(directory)).train
    Path(str(split.shards[1].key)).unlink()
    assert read(split, np.array([0])) == BY_NUMBER[:1]
    with pytest.raises(InvalidInputError, match=r"shard-00001-of-00005.tfrecord is missing: prepare"):
        read(split, np.array([0, 5]))


def test_a_record_has_a_name(directory: Path) -> None:
    with Cache() as cache:
        records = SplitRecords(open_dataset(key_of(directory)).train, cache)
    assert records.where(6).endswith("shard-00001-of-00005.tfrecord: record 1")
