from pathlib import Path

import pytest

from support.training_data import key_of, shard_folder, write_dataset, write_published_dataset
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import OutputFile, describe_file, manifest_name, parse_manifest
from toposieve.io.store import Key
from toposieve.training import shards
from toposieve.training.shards import Dataset, Shard, Share, Split, check_share, is_altered


def open_dataset(directory: Path) -> Dataset:
    return shards.open_dataset(key_of(directory))


def split_of(events: list[int], streams: int) -> Split:
    return Split("train", tuple(Shard(Key("/d") / str(i), count, 0) for i, count in enumerate(events)), streams)


def test_shard_i_belongs_to_stream_i_modulo_streams() -> None:
    split = split_of([1] * 6, streams=4)
    assert [[shard.key.name for shard in split.stream(index)] for index in range(4)] == [
        ["0", "4"],
        ["1", "5"],
        ["2"],
        ["3"],
    ]


@pytest.mark.parametrize(("events", "steps"), [([8, 8], 2), ([8, 9], 3), ([1, 0], 1)])
def test_an_epoch_has_the_steps_of_its_longest_stream(events: list[int], steps: int) -> None:
    assert split_of(events, streams=2).steps(batch_size=8) == steps


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_workers_share_streams_and_rows_without_gap_or_overlap(workers: int) -> None:
    shares = [Share(32, 8, worker, workers) for worker in range(workers)]
    assert [index for share in shares for index in share.owned] == list(range(8))
    assert [row for share in shares for row in share.rows] == list(range(32))


def test_a_dataset_is_found_by_its_manifest(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "d", train=61, validation=9, streams=4, shards=8))
    assert dataset.streams == 4
    assert [shard.events for shard in dataset.train.shards] == [8, 8, 8, 8, 8, 7, 7, 7]
    assert dataset.train.events == 61
    assert dataset.validation.events == 9


def test_the_manifest_says_how_much_weight_is_negative(tmp_path: Path) -> None:
    directory = write_dataset(tmp_path / "d")
    assert open_dataset(directory).signed_factors == [1, 1, 1]
    path = directory / manifest_name(1)
    extra = {"streams": 4, "negative_share": {"qcd": {"events": 0.1, "train": 0.25}, "ttbar": {"train": 0.5}}}
    path.write_bytes(parse_manifest(path.read_bytes(), key_of(path)).model_copy(update={"extra": extra}).to_bytes())
    assert open_dataset(directory).signed_factors == [2, 0, 1]


def test_files_that_the_manifest_does_not_list_are_not_read(tmp_path: Path) -> None:
    directory = write_dataset(tmp_path / "d")
    (shard_folder(directory, "train") / "shard-99999-of-99999.tfrecord").write_bytes(b"junk")
    assert len(open_dataset(directory).train.shards) == 4


@pytest.mark.parametrize(("files", "streams"), [(1, 1), (3, 2), (8, 8), (9, 8)])
def test_a_dataset_without_a_manifest_is_read_in_file_order(tmp_path: Path, files: int, streams: int) -> None:
    dataset = open_dataset(write_published_dataset(tmp_path / "d", train=9, validation=9, files=files))
    assert [shard.key.name for shard in dataset.train.shards] == [f"part-r-{i:05d}" for i in range(files)]
    assert dataset.train.events == 9
    assert dataset.streams == streams


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nowhere does not exist"):
        open_dataset(tmp_path / "nowhere")


def test_a_dataset_without_validation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no events in its validation split"):
        open_dataset(write_dataset(tmp_path / "d", validation=0))


def test_a_folder_without_the_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "other.txt").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="train is missing"):
        open_dataset(tmp_path / "d")


def test_a_manifest_without_streams_is_refused(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "d") / manifest_name(1)
    path.write_text(path.read_text().replace('"streams": 4', '"other": 4'))
    with pytest.raises(InvalidInputError, match="number of streams"):
        open_dataset(tmp_path / "d")


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
def test_a_dataset_that_preparation_has_not_finished_is_not_foreign(tmp_path: Path, name: str) -> None:
    directory = write_published_dataset(tmp_path / "d")
    open_dataset(directory)
    (directory / name).parent.mkdir(parents=True)
    (directory / name).write_bytes(b"")
    with pytest.raises(InvalidInputError, match=r"unfinished: run prepare_features\.py again"):
        open_dataset(directory)


def test_a_foreign_folder_named_by_a_date_is_none_of_ours(tmp_path: Path) -> None:
    directory = write_published_dataset(tmp_path / "d")
    expected = open_dataset(directory)
    (tmp_path / "d/202601011230").mkdir()
    (tmp_path / "d/202601011230/notes").touch()
    assert open_dataset(directory).train == expected.train


def test_a_listing_that_is_too_old_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_dataset(tmp_path / "d")
    listing = key_of(directory).list()
    old = {name: stat for name, stat in listing.items() if "shard-00001" not in name}
    monkeypatch.setattr(Key, "list", lambda _key, prefix="": {n: s for n, s in old.items() if n.startswith(prefix)})
    assert open_dataset(directory).train.events == 60


def test_an_altered_file_is_known_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(b"records")
    file = describe_file(path, "shard")
    assert not is_altered(path, file)
    path.write_bytes(b"recorbs")
    assert is_altered(path, file)
    assert not is_altered(path, OutputFile(path="shard", bytes=7, checksum="0" * 32))  # of an older version
    assert not is_altered(path, None)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_own_every_shard_once(workers: int) -> None:
    split = split_of([1] * 6, streams=4)
    owned = [split.owned_by(Share(8, 4, worker, workers)) for worker in range(workers)]
    assert sorted(shard.key.name for part in owned for shard in part) == [str(i) for i in range(6)]
    for worker, part in enumerate(owned):
        streams = Share(8, 4, worker, workers).owned
        assert [shard for index in streams for shard in split.stream(index)] == sorted(
            part, key=lambda shard: (int(shard.key.name) % 4, int(shard.key.name))
        )


def test_a_foreign_file_cut_short_is_named(tmp_path: Path) -> None:
    directory = write_published_dataset(tmp_path / "d")
    path = directory / "train" / "part-r-00001"
    for kept in (path.stat().st_size - 1, 5):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(InvalidInputError, match="part-r-00001 is cut short"):
            open_dataset(directory)


def test_batches_must_divide_into_streams_and_streams_into_workers(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "d", streams=4))
    check_share(dataset, batch_size=8, workers=2)
    with pytest.raises(InvalidInputError, match="batch_size 10 is not a multiple of the 4 streams"):
        check_share(dataset, batch_size=10, workers=2)
    with pytest.raises(InvalidInputError, match="3 workers cannot share 4 streams"):
        check_share(dataset, batch_size=8, workers=3)


def test_a_dataset_too_small_for_the_workers_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "d", validation=2, streams=4))
    check_share(dataset, batch_size=8, workers=1)
    with pytest.raises(
        InvalidInputError, match=r"too small for 4 workers: its validation split has 2 events.*worker 2"
    ):
        check_share(dataset, batch_size=8, workers=4)
