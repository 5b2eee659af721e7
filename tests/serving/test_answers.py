from types import SimpleNamespace

import numpy as np

from support.streamed_events import random_event
from toposieve.serving.answers import KEPT_BYTES, answer
from toposieve.serving.events import Decision, Refused
from toposieve.serving.record import LARGEST_EVENT_ID, decode_decision, encode_event


class Message:
    def __init__(self, value, offset, key=b"key"):
        self._value, self._offset, self._key = value, offset, key

    def topic(self):
        return "events"

    def partition(self):
        return 1

    def offset(self):
        return self._offset

    def key(self):
        return self._key

    def value(self):
        return self._value


def score(events):
    """Refuses the event of number 2."""
    return [
        Refused(event.event_id, "too odd")
        if event.event_id.endswith(":2")
        else Decision(event.event_id, 7, event.high_level[:2], (True, False))
        for event in events
    ]


MODEL = SimpleNamespace(version=7, score=score)


def test_each_message_has_its_own_answer_in_order():
    values = [
        encode_event(random_event(1)),
        b"junk",
        encode_event(random_event(2)),
        None,
        encode_event(random_event(3)),
    ]
    answers = answer([Message(value, 10 + place) for place, value in enumerate(values)], MODEL)
    assert [each.fault for each in answers] == [None, "no record", "not scored", "empty", None]
    assert [each.version for each in answers] == [7, None, None, None, 7]
    for each, number in ((answers[0], 1), (answers[4], 3)):
        decision = decode_decision(each.value)
        assert each.key == decision.event_id.encode() == random_event(number).event_id.encode()
        np.testing.assert_array_equal(decision.logits, random_event(number).high_level[:2])
    expected = {"reason": b"too odd", "topic": b"events", "partition": b"1", "offset": b"12"}
    assert expected.items() <= answers[2].headers.items()
    assert answers[2].key == b"key"


def test_of_a_large_message_the_start_is_kept_and_the_size_told():
    [found, none] = answer([Message(bytes(20 << 20), 3, b"k" * (2 << 20)), Message(b"junk", 4, None)], MODEL)
    assert len(found.value) == KEPT_BYTES
    assert found.key == b"k" * LARGEST_EVENT_ID
    assert (found.headers["bytes"], found.headers["key_bytes"]) == (b"20971520", b"2097152")
    assert (none.key, none.headers["key_bytes"]) == (None, b"0")


def test_a_model_is_not_asked_about_nothing():
    def fail(_events):
        raise AssertionError

    assert answer([Message(b"junk", 0)], SimpleNamespace(version=7, score=fail))[0].fault == "no record"
