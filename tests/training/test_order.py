import time

import numpy as np
import pytest

from toposieve.training.order import CHUNK_RECORDS, NOBODY, WINDOW_CHUNKS, Numbers, Order, Share

SIZES = (500, 0, 37, 4000, 1, 2205)  # uneven, one empty; more than two windows
ORDER = Order(SIZES, (1, 0))


def all_batches(order: Order, batch_size: int) -> Numbers:
    return order.batches(0, order.steps(batch_size), Share(batch_size))


def records_of(batches: Numbers) -> list[int]:
    return sorted(batches[batches != NOBODY].tolist())


@pytest.mark.parametrize("batch_size", [1, 100, 128, 5000, 10_000])
@pytest.mark.parametrize("order", [ORDER, Order(SIZES)], ids=["mixed", "in order"])
def test_every_record_comes_once_an_epoch(order: Order, batch_size: int) -> None:
    batches = all_batches(order, batch_size)
    assert records_of(batches) == list(range(sum(SIZES)))
    assert (batches[:-1] != NOBODY).all()  # only the last batch may be smaller


@pytest.mark.parametrize("workers", [2, 3, 64])
@pytest.mark.parametrize("batch_size", [100, 128, 40])
def test_any_number_of_workers_sees_the_batches_of_one(workers: int, batch_size: int) -> None:
    """Of batches of 100, the last 14 of 64 workers have no row; of batches of 40, the last 24."""
    steps = ORDER.steps(batch_size)
    gang = [ORDER.batches(0, steps, Share(batch_size, worker, workers)) for worker in range(workers)]
    assert {part.shape for part in gang} == {(steps, -(-batch_size // workers))}
    for alone, together in zip(all_batches(ORDER, batch_size), np.concatenate(gang, axis=1), strict=True):
        assert records_of(together) == records_of(alone)


def test_a_last_batch_of_three_on_64_workers() -> None:
    order = Order((259,), (1, 0))
    parts = [order.batches(2, 3, Share(128, worker, 64)) for worker in range(64)]
    assert [(part != NOBODY).sum() for part in parts] == [2, 1, *[0] * 62]
    assert len(set(records_of(np.concatenate(parts)))) == 3


def test_rows_of_a_gang_are_all_rows() -> None:
    shares = [Share(100, worker, 64) for worker in range(64)]
    assert [row for share in shares for row in share.rows] == list(range(128))
    assert list(Share(8, 1, 2).rows) == [4, 5, 6, 7]


def test_an_order_follows_from_seed_and_epoch() -> None:
    def first(*seed: int) -> list[int]:
        return records_of(Order(SIZES, seed).batches(0, 1, Share(128)))

    assert first(1, 0) == first(1, 0)
    assert len({tuple(each) for each in (first(1, 0), first(1, 1), first(2, 0), first(2**70, 0))}) == 4


def overlap(one: Numbers, two: Numbers) -> float:
    """Share of the pairs of records that are in one batch in both."""
    batch_of = {record: number for number, batch in enumerate(two) for record in batch.tolist()}
    pairs = [batch_of[a] == batch_of[b] for batch in one for a, b in zip(batch, np.roll(batch, 1), strict=True)]
    return float(np.mean(pairs))


def test_no_epoch_has_the_batches_of_the_last() -> None:
    split = (128 * 100,)
    one, two = (all_batches(Order(split, (1, epoch)), 128) for epoch in (0, 1))
    assert overlap(one, one) == 1
    assert overlap(one, two) < 0.1  # by chance: 1 in 100, and of those of a chunk, who share a window, 1 in 16


def test_chunks_of_the_whole_split_come_in_a_random_order() -> None:
    """Input sorted by class still mixes, if only coarsely: windows hold chunks of all parts of the split."""
    split = (30_000, 30_000, 30_000)  # a class each
    for batch in all_batches(Order(split, (1, 0)), 512)[:-1]:
        counts = np.bincount(batch // 30_000, minlength=3)
        assert counts.min() > 40, counts  # 21 chunks of each class in a window, 4 more or less
    in_order = all_batches(Order(split), 512)
    assert np.bincount(in_order[0] // 30_000, minlength=3).tolist() == [512, 0, 0]


def test_a_window_is_mixed_record_by_record() -> None:
    batches = all_batches(Order((CHUNK_RECORDS * WINDOW_CHUNKS,), (1, 0)), 128)
    for batch in batches:
        # 128 of 64 chunks: two of each, were they dealt; by chance 55 chunks have some.
        assert 45 <= len(set((batch // CHUNK_RECORDS).tolist())) <= 63


def test_every_window_of_every_epoch_is_mixed_in_its_own_way() -> None:
    records = CHUNK_RECORDS * WINDOW_CHUNKS
    orders = [Order((3 * records,), (1, epoch)) for epoch in (0, 1)]
    places = [order.numbers(w * records, (w + 1) * records) % CHUNK_RECORDS for order in orders for w in range(3)]
    assert len({tuple(each.tolist()) for each in places}) == 6


def test_chunks_are_read_together() -> None:
    """A window's records lie in its 64 chunks, and a worker's in little more than its part of them."""
    order = Order((100_000,), (1, 0))
    for workers, most in ((1, WINDOW_CHUNKS), (8, 16)):
        numbers = order.batches(0, 16, Share(128, 3 % workers, workers))
        assert len(set((numbers // CHUNK_RECORDS).ravel().tolist())) <= most


@pytest.mark.parametrize("step", [1, 7, 50])
def test_any_batch_is_had_without_those_before_it(step: int) -> None:
    alone = ORDER.batches(step, step + 1, Share(128))
    np.testing.assert_array_equal(alone[0], all_batches(ORDER, 128)[step])


def test_a_resume_in_the_middle_of_100_gb_is_quick() -> None:
    """2.7 million events in 675 shards."""
    begun = time.process_time()
    order = Order((4000,) * 675, (1, 3))
    middle = order.steps(128) // 2
    assert len(order.batches(middle, middle + 16, Share(128, 5, 8))) == 16
    assert time.process_time() - begun < 1
