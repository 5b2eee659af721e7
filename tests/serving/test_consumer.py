"""What the brokers may answer before they take anything, without brokers."""

from threading import Event
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from toposieve.errors import InvalidInputError
from toposieve.serving import consumer, hanging
from toposieve.serving.consumer import Route, Stream
from toposieve.serving.metrics import Metrics

HANGS = "hangs"
PASSING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.CONCURRENT_TRANSACTIONS,
)


class Client:
    """Answers each call with what comes next for its name, and well once nothing does."""

    def __init__(self, answers):
        self._answers = answers
        self._ended = Event()

    def _answer(self, name, well=None):
        found = self._answers.get(name)
        code = found.pop(0) if found else None
        if code == HANGS:
            self._ended.wait(1)
        elif code is not None:
            raise KafkaException(KafkaError(code))
        return well

    def init_transactions(self, _seconds):
        self._answer("init")

    def list_topics(self, name, _seconds):
        return self._answer("topics", SimpleNamespace(topics={name: SimpleNamespace(error=None)}))

    def assignment(self):
        return []

    def position(self, _partitions):
        return []

    def poll(self, _seconds):
        return self._answer("poll")

    def subscribe(self, _topics, **_calls):
        pass

    def close(self):
        pass


@pytest.fixture
def answers():
    """Name of a call → codes of errors that it is answered with, in their order."""
    return {}


@pytest.fixture
def stream(answers, monkeypatch):
    """It ends after its third turn."""
    for kind in ("Consumer", "Producer"):
        monkeypatch.setattr(consumer, kind, lambda _: Client(answers))
    monkeypatch.setattr(consumer, "finished", lambda call: hanging.finished(call, 0.05))
    monkeypatch.setattr(consumer, "PAUSE_SECONDS", 0.0)
    turns = iter([False] * 20)
    metrics = Metrics()
    route = Route("events", "decisions", "refused", "group")
    settings = {"bootstrap.servers": "host:1"}
    found = Stream(settings, route, None, metrics, batch=1, wait=0, stopped=lambda: next(turns, True))
    found.metrics = metrics
    return found


@pytest.mark.parametrize("code", [*PASSING, KafkaError._FATAL, KafkaError.UNKNOWN, HANGS])
@pytest.mark.parametrize("call", ["init", "topics"])
def test_what_passes_is_waited_for(stream, answers, call, code):
    answers[call] = [code] * 3
    stream.run()
    assert answers[call] == []
    assert stream.metrics.is_ready


def test_a_consumer_that_cannot_go_on_is_replaced(stream, answers):
    answers["poll"] = [KafkaError._FATAL, KafkaError._FATAL]
    stream.run()
    assert answers["poll"] == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "host:1 forbids it"),
        (KafkaError.INVALID_TRANSACTION_TIMEOUT, "mend the settings of --kafka"),
    ],
)
def test_what_somebody_has_to_mend_ends_it(stream, answers, code, message):
    answers["init"] = [code]
    with pytest.raises(InvalidInputError, match=message):
        stream.run()
