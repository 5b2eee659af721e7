from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from support.training_data import encode, key_of, make_events, shard_folder, write_dataset, write_records
from toposieve.errors import InvalidInputError
from toposieve.training.cache import Cache
from toposieve.training.input_pipeline import Epochs, batch_spec, ordered_batches, training_batches
from toposieve.training.order import Share
from toposieve.training.records import EVENT_ID, Batch
from toposieve.training.shards import Split, open_dataset
from toposieve.training.sources import open_source

BATCH_SIZE = 16
EVENTS, SHARDS = 70, 3
TWO_EPOCHS = Epochs(seed=1, start=0, stop=2)
ALONE = Share(BATCH_SIZE)
HIGH_LEVEL, BOTH = ("high_level", EVENT_ID), ("high_level", "particles", EVENT_ID)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    directory = tmp_path_factory.mktemp("pipeline") / "d"
    return open_dataset(key_of(write_dataset(directory, train=EVENTS, shards=SHARDS))).train


def batches_of(
    split: Split, epochs: Epochs | None, share: Share = ALONE, inputs: tuple[str, ...] = HIGH_LEVEL
) -> list[Batch]:
    with Cache() as cache:
        source = open_source(split, inputs, cache)
        batches = (
            ordered_batches(split, source, share) if epochs is None else training_batches(split, source, share, epochs)
        )
        return list(batches)


def names_of(batches: list[Batch]) -> list[list[str]]:
    """Event of every row of every batch; an empty string where there is none."""
    for batch in batches:
        assert [bool(name) for name in batch[EVENT_ID]] == batch["present"].tolist()
    return [[name.decode() for name in batch[EVENT_ID]] for batch in batches]


EVENTS_IN_ORDER = [
    event["event_id"].decode() for shard in range(SHARDS) for event in make_events(EVENTS)[shard::SHARDS]
]


def test_training_follows_the_order_of_seed_and_epoch(split: Split) -> None:
    steps = split.steps(BATCH_SIZE)
    found = names_of(batches_of(split, TWO_EPOCHS))
    expected = [
        [EVENTS_IN_ORDER[number] if number >= 0 else "" for number in batch]
        for epoch in (0, 1)
        for batch in split.order(1, epoch).batches(0, steps, Share(BATCH_SIZE)).tolist()
    ]
    assert found == expected
    assert found[:steps] != found[steps:]


def test_a_pass_in_order_keeps_the_order_of_the_shards(split: Split) -> None:
    names = [name for batch in names_of(batches_of(split, None)) for name in batch if name]
    assert names == EVENTS_IN_ORDER


@pytest.mark.parametrize("inputs", [HIGH_LEVEL, BOTH], ids=["tables", "records"])
@pytest.mark.parametrize("epochs", [TWO_EPOCHS, None], ids=["training", "ordered"])
@pytest.mark.parametrize(("batch_size", "workers"), [(BATCH_SIZE, 5), (100, 64), (2 * EVENTS, 2)])
def test_workers_see_their_rows_and_some_may_see_none(
    split: Split,
    epochs: Epochs | None,
    batch_size: int,
    workers: int,
    inputs: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None in what is read at a time, or none at all."""
    monkeypatch.setattr("toposieve.training.input_pipeline.WINDOW_CHUNKS", 1)
    shares = [Share(batch_size, worker, workers) for worker in range(workers)]
    parts = [batches_of(split, epochs, share, inputs) for share in shares]
    for part, share in zip(parts, shares, strict=True):
        assert all(batch["row"].tolist() == list(share.rows) for batch in part)
    together = [[name for rows in batch for name in rows] for batch in zip(*map(names_of, parts), strict=True)]
    alone = names_of(batches_of(split, epochs, Share(batch_size)))
    assert [batch[:batch_size] for batch in together] == alone
    assert not any(batch["present"].any() for batch in parts[-1])


@pytest.mark.parametrize("skipped", [1, 3, 5])
def test_a_resumed_run_sees_what_is_left(split: Split, skipped: int) -> None:
    resumed = batches_of(split, Epochs(seed=1, start=0, stop=2, skipped_steps=skipped))
    assert names_of(resumed) == names_of(batches_of(split, TWO_EPOCHS))[skipped:]


def assert_equal(one: list[Batch], two: list[Batch]) -> None:
    assert len(one) == len(two)
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys()
        for name, column in left.items():
            np.testing.assert_array_equal(column, right[name])
            assert column.dtype == right[name].dtype


def test_tables_give_the_batches_of_the_records(split: Split) -> None:
    for epochs in (TWO_EPOCHS, None):
        of_records = batches_of(split, epochs, inputs=BOTH)
        for batch in of_records:
            del batch["particles"]
        assert_equal(batches_of(split, epochs), of_records)


def test_tables_are_read_in_place_of_records(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cache, "read", lambda *_: pytest.fail("reads records"))
    assert len(batches_of(split, None)) == 5


def test_tables_too_large_for_memory_are_mapped_to_it(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = batches_of(split, TWO_EPOCHS)
    monkeypatch.setattr("toposieve.training.sources.MEMORY_BYTES", 1)
    assert_equal(batches_of(split, TWO_EPOCHS), expected)


@pytest.mark.parametrize("inputs", [HIGH_LEVEL, BOTH])
def test_a_source_knows_what_its_batches_look_like(split: Split, inputs: tuple[str, ...]) -> None:
    share = Share(BATCH_SIZE, 0, 3)
    with Cache() as cache:
        spec = batch_spec(open_source(split, inputs, cache), share)
    [first, *_] = batches_of(split, None, share, inputs)
    assert spec.keys() == first.keys()
    for name, column in first.items():
        assert column.shape == tuple(spec[name].shape)
        assert spec[name].dtype.as_numpy_dtype == column.dtype


def test_a_record_with_bad_values_is_named(tmp_path: Path) -> None:
    directory = write_dataset(tmp_path / "d", train=40)
    events = make_events(40)[3::4]
    events[7]["label"] = 3
    path = shard_folder(directory, "train") / "shard-00003-of-00004.tfrecord"
    write_records(path, [encode(event) for event in events])
    split = open_dataset(key_of(directory)).train
    with pytest.raises(InvalidInputError, match=r"shard-00003-of-00004.tfrecord: record 7 holds bad values \(label"):
        batches_of(split, TWO_EPOCHS, inputs=BOTH)


def test_an_iterator_can_be_left_early(split: Split) -> None:
    with Cache() as cache:
        source = open_source(split, BOTH, cache)
        batches = training_batches(split, source, Share(BATCH_SIZE), Epochs(1, 0, 1000))
        assert len(list(islice(batches, 2))) == 2
