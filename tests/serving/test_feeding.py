"""The pace of a feed and what it does about brokers that are slow; tests/integration/serving has a true one."""

import time

import numpy as np
import pytest

from support.selected_files import random_unit, write_selected
from support.streamed_events import random_event
from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.io.store import root_key
from toposieve.serving import feeding
from toposieve.serving.feeding import feed, open_topic, stored_events
from toposieve.serving.record import decode_event


class Brokers:
    """Stands for a producer: takes an event each second look, and may fail one."""

    def __init__(self, fails=None, left=0):
        self.taken, self.full, self.fails, self.left = [], False, fails, left

    def produce(self, topic, value, key, on_delivery):
        self.full = not self.full
        if self.full:
            raise BufferError
        self.taken.append((topic, key, value))
        self.outcome = lambda: on_delivery(self.fails, None)

    def poll(self, seconds):
        if not self.full:
            self.outcome()

    def flush(self, seconds):
        return self.left


class Away:
    """Stands for an error of Kafka's."""

    def str(self):
        return "no leader"


def test_each_event_comes_once_and_no_faster_than_asked_for():
    brokers, events = Brokers(), [random_event(number) for number in range(6)]
    started = time.monotonic()
    assert feed(brokers, "events", events, rate=20) == 6
    assert time.monotonic() - started >= 5 / 20
    assert [(topic, key.decode()) for topic, key, _ in brokers.taken] == [("events", each.event_id) for each in events]
    for (_, _, value), event in zip(brokers.taken, events, strict=True):
        np.testing.assert_array_equal(decode_event(value).particles, event.particles)


def test_it_ends_when_it_is_asked_to_though_the_next_event_is_far():
    brokers = Brokers()
    assert feed(brokers, "events", map(random_event, range(9)), 0.001, stopped=lambda: len(brokers.taken) == 1) == 1


def test_an_event_that_is_not_taken_is_said():
    with pytest.raises(UnavailableError, match="an event was not taken: no leader"):
        feed(Brokers(fails=Away()), "events", [random_event(1)], 1e6)
    with pytest.raises(UnavailableError, match="do not say that they have the last 2 of 3 events"):
        feed(Brokers(left=2), "events", map(random_event, range(3)), 1e6)


def test_brokers_that_are_away_are_said(monkeypatch):
    monkeypatch.setattr(feeding, "CALL_SECONDS", 0.1)
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 does not answer"):
        open_topic({"bootstrap.servers": "127.0.0.1:1"}, "events")


def test_selected_events_are_those_of_the_files_and_known_anew_each_turn(tmp_path):
    units = [random_unit("qcd/a.root", 5, seed=1), random_unit("ttbar/b.root", 0, seed=2)]
    folder = write_selected(tmp_path, "day", units)
    found = {event.event_id: event for event in stored_events(folder)}
    assert found.keys() == {f"qcd/a.root:{entry}" for entry in units[0].entries}
    for row, entry in enumerate(units[0].entries):
        event, rows = found[f"qcd/a.root:{entry}"], slice(*units[0].offsets[row : row + 2])
        np.testing.assert_array_equal(event.high_level, units[0].high_level[row])
        np.testing.assert_array_equal(event.particles["Pt"], units[0].particles["Pt"][rows])
    assert [event.event_id for event in stored_events(folder, turn=2)] == [f"{event_id}#2" for event_id in found]


def test_a_day_that_is_not_selected_is_refused(tmp_path):
    with pytest.raises(InvalidInputError):
        list(stored_events(root_key("--base", str(tmp_path)) / "selected/day"))
