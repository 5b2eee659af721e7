import numpy as np
import pytest

from support.training_data import encode, make_events
from toposieve import schema
from toposieve.io.store import Key
from toposieve.training.records import BadRecordError, Batch, RecordReader

OURS = schema.RECORD_KEYS
BOTH = ("high_level", "particles")
SHARD = Key("/d") / "shard.tfrecord"


@pytest.fixture
def events() -> list[dict[str, object]]:
    return make_events(6, lengths=(5, 30))


def read_ours(events: list[dict[str, object]], inputs: tuple[str, ...] = BOTH) -> Batch:
    records = [encode(event) for event in events]
    return RecordReader(inputs, 3).read(records)


def test_our_records_are_read_whole(events: list[dict[str, object]]) -> None:
    batch = read_ours(events)
    for row, event in enumerate(events):
        np.testing.assert_array_equal(batch["high_level"][row], event["high_level"])
        np.testing.assert_array_equal(batch["particles"][row, : event["length"]], event["particles"])
        assert not batch["particles"][row, event["length"] :].any()
    np.testing.assert_array_equal(batch["label"], [event["label"] for event in events])
    np.testing.assert_allclose(batch["weight"], [event["weight"] for event in events])
    np.testing.assert_array_equal(batch["present"], 1.0)


def test_the_longest_event_fits_and_no_longer_one() -> None:
    longest = make_events(1, lengths=(801, 802))
    assert read_ours(longest)["particles"].all()
    with pytest.raises(BadRecordError, match="too many particles"):
        read_ours(make_events(1, lengths=(802, 803)))


def test_a_model_without_particles_does_not_read_them(events: list[dict[str, object]]) -> None:
    assert set(read_ours(events, ("high_level",))) == {"high_level", "label", "weight", "present"}


def test_an_empty_record_counts_for_nothing(events: list[dict[str, object]]) -> None:
    records = [encode(event) for event in events]
    batch = RecordReader(BOTH, 3).read([b"", records[1]])
    np.testing.assert_array_equal(batch["present"], [0.0, 1.0])
    np.testing.assert_allclose(batch["weight"], [0.0, events[1]["weight"]])
    assert batch["particles"][0, 0].all()  # one particle: cuDNN takes no empty sequence
    assert not batch["particles"][0, 1:].any()


def test_an_event_without_any_particle_is_read(events: list[dict[str, object]]) -> None:
    event = {**events[0], "particles": np.zeros((0, 19)), "length": 0}
    records = [encode(events[1]), encode(event)]
    batch = RecordReader(BOTH, 3).read(records)
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
        ({"particles": np.diag([*[1] * 17, np.inf, -np.inf]), "length": 19}, "NaN or infinity in particles"),
        ({"weight": float("nan")}, "in weight"),
        ({"weight": np.zeros(0)}, "0 floats in weight, not 1"),
        ({"high_level": np.zeros(1)}, "1 floats in high_level, not 14"),
    ],
)
def test_bad_values_are_refused(events: list[dict[str, object]], change: dict[str, object], message: str) -> None:
    with pytest.raises(BadRecordError, match=message):
        read_ours([events[0], {**events[1], **change}])


def test_numbers_whose_sum_overflows_are_finite(events: list[dict[str, object]]) -> None:
    large = np.full((5, 19), 3e38, np.float32)
    batch = read_ours([{**events[1], "particles": large, "length": 5}])
    np.testing.assert_array_equal(batch["particles"][0, :5], large)


def test_a_record_unlike_the_first_is_named(events: list[dict[str, object]]) -> None:
    other = {role: key for role, key in OURS.items() if role != "weight"}
    records = [encode(events[0]), encode(events[1]), encode(events[2], other)]
    with pytest.raises(BadRecordError, match="no key weight") as caught:
        RecordReader(BOTH, 3).read(records)
    assert caught.value.place == 2
