from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest

from support.training_data import key_of, make_events, write_dataset
from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.training.cache import Cache
from toposieve.training.input_pipeline import Epochs, checked, ordered_batches, training_batches
from toposieve.training.records import EVENT_ID, RecordReader, reader_for
from toposieve.training.shards import Dataset, Share, Split, open_dataset

STREAMS = 8
BATCH_SIZE = 16
EVENTS = 70  # not a multiple of anything: the last batch is partial, and streams differ in length

Names = list[list[str]]
"""Event of every row of every batch; an empty string where there is none."""


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    directory = tmp_path_factory.mktemp("pipeline") / "d"
    return opened(write_dataset(directory, train=EVENTS, streams=STREAMS, shards=2 * STREAMS)).train


def opened(directory: Path) -> Dataset:
    return open_dataset(key_of(directory))


def path_of(split: Split, index: int) -> Path:
    return Path(str(split.shards[index].key))


def cache_of(split: Split, share: Share, limit_bytes: int = 0) -> Cache:
    return Cache({shard.key: shard.bytes for shard in split.owned_by(share)}, limit_bytes)


def reader_of(split: Split, *inputs: str) -> RecordReader:
    return reader_for(split.shards[0].key, path_of(split, 0), schema.RECORD_KEYS, inputs)


def batches_of(split: Split, share: Share, epochs: Epochs | None, limit_bytes: int = 0) -> Names:
    reader = reader_of(split, "high_level", EVENT_ID)
    names = []
    with cache_of(split, share, limit_bytes) as cache:
        batches = (
            ordered_batches(split, reader, share, cache)
            if epochs is None
            else training_batches(split, reader, share, epochs, cache)
        )
        for batch in checked(batches, split, cache):
            np.testing.assert_array_equal(batch["row"], share.rows)
            names.append([name.decode() for name in batch[EVENT_ID].numpy()])
            assert [bool(name) for name in names[-1]] == batch["present"].numpy().tolist()
    return names


def global_batches(split: Split, workers: int, epochs: Epochs | None) -> Names:
    parts = [batches_of(split, Share(BATCH_SIZE, STREAMS, worker, workers), epochs) for worker in range(workers)]
    return [list(chain.from_iterable(rows)) for rows in zip(*parts, strict=True)]


def events_of(batches: Names) -> list[str]:
    return [name for batch in batches for name in batch if name]


ALL_EVENTS = sorted(event["event_id"].decode() for event in make_events(EVENTS))
TWO_EPOCHS = Epochs(seed=1, start=0, stop=2)


@pytest.mark.parametrize("workers", [2, 4, 8])
@pytest.mark.parametrize("epochs", [TWO_EPOCHS, None], ids=["training", "ordered"])
def test_any_number_of_workers_sees_the_same_global_batches(split: Split, workers: int, epochs: Epochs | None) -> None:
    assert global_batches(split, workers, epochs) == global_batches(split, 1, epochs)


def test_every_epoch_has_every_event_once_in_an_order_of_its_own(split: Split) -> None:
    steps = split.steps(BATCH_SIZE)
    batches = global_batches(split, 1, TWO_EPOCHS)
    first, second = batches[:steps], batches[steps:]
    assert len(second) == steps
    assert sorted(events_of(first)) == sorted(events_of(second)) == ALL_EVENTS
    assert first != second
    assert events_of(first) != ALL_EVENTS


def test_a_batch_takes_equally_many_events_from_each_stream(split: Split) -> None:
    first = global_batches(split, 1, TWO_EPOCHS)[0]
    quota = BATCH_SIZE // STREAMS
    for stream in range(STREAMS):
        rows = first[stream * quota : (stream + 1) * quota]
        # The helper puts event i into shard i modulo shards.
        assert {int(name.split(":")[1]) % STREAMS for name in rows} == {stream}


def test_the_order_comes_from_the_seed_and_the_epoch(split: Split) -> None:
    def order(seed: int, epoch: int) -> Names:
        return global_batches(split, 1, Epochs(seed, epoch, epoch + 1))

    assert order(1, 1) == order(1, 1) == global_batches(split, 1, TWO_EPOCHS)[split.steps(BATCH_SIZE) :]
    assert order(1, 1) != order(2, 1)
    assert order(1, 1) != order(1, 0)


@pytest.mark.parametrize("skipped", [1, 3])
def test_a_resumed_run_sees_what_is_left(split: Split, skipped: int) -> None:
    resumed = global_batches(split, 2, Epochs(seed=1, start=0, stop=2, skipped_steps=skipped))
    assert resumed == global_batches(split, 2, TWO_EPOCHS)[skipped:]


def test_ordered_batches_keep_the_order_of_the_shards(split: Split) -> None:
    reader = reader_of(split, "high_level", EVENT_ID)
    share = Share(BATCH_SIZE, STREAMS)
    first_stream = [name for batch in batches_of(split, share, None) for name in batch[:2] if name]
    numbers = [int(name.split(":")[1]) for name in first_stream]
    assert numbers == [*range(0, EVENTS, 16), *range(8, EVENTS, 16)]
    with cache_of(split, share) as cache:
        twice = list(ordered_batches(split, reader, share, cache, passes=2))
    assert len(twice) == 2 * split.steps(BATCH_SIZE)


def test_streams_of_unequal_length_run_to_the_end_of_the_longest(tmp_path: Path) -> None:
    uneven = opened(write_dataset(tmp_path / "d", train=9, validation=9, streams=8)).train
    batches = global_batches(uneven, 1, Epochs(1, 0, 1))
    assert len(batches) == 1
    assert sorted(events_of(batches)) == sorted(f"file.root:{i}" for i in range(9))


def test_a_worker_reads_only_its_own_shards(tmp_path: Path) -> None:
    split = opened(write_dataset(tmp_path / "d", train=16, streams=8)).train
    for index in range(4, 8):
        path_of(split, index).unlink()
    assert len(events_of(batches_of(split, Share(8, 8, 0, 2), Epochs(1, 0, 1)))) == 8
    with pytest.raises(InvalidInputError, match=r"shard-0000\d-of-00008.tfrecord is missing"):
        batches_of(split, Share(8, 8, 1, 2), Epochs(1, 0, 1))


def test_a_shard_cut_short_or_altered_is_an_error(tmp_path: Path) -> None:
    split = opened(write_dataset(tmp_path / "d", train=64, streams=8)).train
    path = path_of(split, 3)
    content = path.read_bytes()
    for damaged in (content[:-10], content[:-10] + bytes(10)):
        path.write_bytes(damaged)
        with pytest.raises(
            InvalidInputError, match=r"shard-00003-of-00008.tfrecord: a shard of the train split is damaged"
        ):
            batches_of(split, Share(16, 8), Epochs(1, 0, 1))


def test_an_iterator_can_be_left_early(split: Split) -> None:
    reader, share = reader_of(split, "high_level", "particles"), Share(BATCH_SIZE, STREAMS)
    with cache_of(split, share) as cache:
        batches = training_batches(split, reader, share, Epochs(1, 0, 1000), cache)
        assert len(list(islice(checked(batches, split, cache), 2))) == 2


@pytest.mark.parametrize("epochs", [TWO_EPOCHS, None], ids=["training", "ordered"])
def test_a_cache_that_holds_less_than_is_read_gives_the_same_batches(split: Split, epochs: Epochs | None) -> None:
    share = Share(BATCH_SIZE, STREAMS)
    assert batches_of(split, share, epochs, limit_bytes=1) == batches_of(split, share, epochs)
