from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.training_data import key_of, record_offsets, shard_folder, write_dataset
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import manifest_name, parse_manifest
from toposieve.io.store import Key
from toposieve.training import shards
from toposieve.training.shards import Dataset


def open_dataset(directory: Path) -> Dataset:
    return shards.open_dataset(key_of(directory))


def test_a_dataset_is_found_by_its_manifest(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "d", train=61, validation=9, shards=8))
    assert [shard.events for shard in dataset.train.shards] == [8, 8, 8, 8, 8, 7, 7, 7]
    assert dataset.train.events == 61
    assert dataset.validation.events == 9


def test_the_manifest_says_how_much_weight_is_negative(tmp_path: Path) -> None:
    directory = write_dataset(tmp_path / "d")
    assert open_dataset(directory).signed_factors == [1, 1, 1]
    path = directory / manifest_name(1)
    extra = {"negative_share": {"qcd": {"events": 0.1, "train": 0.25}, "ttbar": {"train": 0.5}}}
    path.write_bytes(parse_manifest(path.read_bytes(), key_of(path)).model_copy(update={"extra": extra}).to_bytes())
    assert open_dataset(directory).signed_factors == [2, 0, 1]


def test_files_that_the_manifest_does_not_list_are_not_read(tmp_path: Path) -> None:
    directory = write_dataset(tmp_path / "d")
    (shard_folder(directory, "train") / "shard-99999-of-99999.tfrecord").write_bytes(b"junk")
    assert len(open_dataset(directory).train.shards) == 4


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nowhere does not exist"):
        open_dataset(tmp_path / "nowhere")


def test_a_dataset_without_validation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no events in its validation split"):
        open_dataset(write_dataset(tmp_path / "d", validation=0))


def test_a_missing_or_shortened_shard_is_named(tmp_path: Path) -> None:
    directory = write_dataset(tmp_path / "d")
    shard = shard_folder(directory, "train") / "shard-00001-of-00004.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InvalidInputError, match=r"shard-00001-of-00004.*bytes long instead of"):
        open_dataset(directory)
    shard.unlink()
    with pytest.raises(InvalidInputError, match=r"shard-00001-of-00004.*missing"):
        open_dataset(directory)


@pytest.mark.parametrize("name", ["_records/a.json", "_heartbeats/b.json", "0123456789ab/train/shard-00000.tfrecord"])
def test_a_dataset_that_preparation_has_not_finished_is_no_published_one(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "d"
    for each in ("train/part-r-00000", "202601011230/notes"):
        (directory / each).parent.mkdir(parents=True)
        (directory / each).touch()
    with pytest.raises(InvalidInputError, match=r"has no manifest: .* import_dataset\.py"):
        open_dataset(directory)
    (directory / name).parent.mkdir(parents=True)
    (directory / name).touch()
    with pytest.raises(InvalidInputError, match=r"unfinished: run prepare_features\.py again"):
        open_dataset(directory)


def test_a_listing_that_is_too_old_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_dataset(tmp_path / "d")
    listing = key_of(directory).list()
    old = {name: stat for name, stat in listing.items() if "shard-00001" not in name}
    monkeypatch.setattr(Key, "list", lambda _key, prefix="": {n: s for n, s in old.items() if n.startswith(prefix)})
    assert open_dataset(directory).train.events == 60


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    directory = write_dataset(tmp_path / "d")
    (shard_folder(directory, "train") / "shard-00001-of-00004.events.parquet").unlink()
    with pytest.raises(InvalidInputError, match=r"shard-00001-of-00004.events.parquet.*missing"):
        open_dataset(directory)


def test_records_are_found(tmp_path: Path) -> None:
    [shard, _] = open_dataset(write_dataset(tmp_path / "d", train=9, shards=2)).train.shards
    expected = record_offsets(Path(str(shard.key)))
    np.testing.assert_array_equal(shards.record_offsets(shard), expected)
    assert len(expected) == 5 + 1
    with pytest.raises(InvalidInputError, match="has 5 rows, not 6"):
        shards.record_offsets(replace(shard, events=6))


def test_a_dataset_of_an_older_version_is_refused(tmp_path: Path) -> None:
    directory = write_dataset(tmp_path / "d")
    path = directory / manifest_name(1)
    manifest = parse_manifest(path.read_bytes(), key_of(path))
    units = tuple(unit.model_copy(update={"outputs": unit.outputs[:1]}) for unit in manifest.units)
    path.write_bytes(manifest.model_copy(update={"units": units}).to_bytes())
    with pytest.raises(InvalidInputError, match=r"older version: run prepare_features\.py again"):
        open_dataset(directory)
