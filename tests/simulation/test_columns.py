import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from toposieve.simulation.columns import concatenate, keep_events, ranges, rows, take

TABLE = {"event": np.array([0, 0, 1, 3]), "pt": np.array([10.0, 20.0, 30.0, 40.0])}


def test_takes_rows_by_index_mask_and_slice():
    assert take(TABLE, np.array([3, 0]))["pt"].tolist() == [40.0, 10.0]
    assert take(TABLE, TABLE["pt"] > 15)["event"].tolist() == [0, 1, 3]
    assert take(TABLE, slice(1, 3))["pt"].tolist() == [20.0, 30.0]


def test_concatenates_every_column():
    both = concatenate([TABLE, take(TABLE, np.array([2]))])
    assert both["event"].tolist() == [0, 0, 1, 3, 1]
    assert both["pt"].tolist() == [10.0, 20.0, 30.0, 40.0, 30.0]


def test_kept_events_are_renumbered_and_others_vanish():
    kept = keep_events(TABLE, np.array([3, 2, 0]), n_events=4)
    assert kept["pt"].tolist() == [10.0, 20.0, 40.0]
    assert kept["event"].tolist() == [2, 2, 0]


def test_rows_are_plain_numbers():
    first = next(rows(TABLE))
    assert first == {"event": 0, "pt": 10.0}
    assert type(first["event"]) is int
    assert type(first["pt"]) is float


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=20))
def test_ranges_equal_a_plain_loop(pairs):
    starts = np.array([start for start, _ in pairs], dtype=np.int64)
    lengths = np.array([length for _, length in pairs], dtype=np.int64)
    expected = [i for start, length in pairs for i in range(start, start + length)]
    assert ranges(starts, lengths).tolist() == expected
