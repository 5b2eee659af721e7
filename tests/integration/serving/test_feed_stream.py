"""A day's events on their way to a true broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.repository import REPOSITORY
from support.selected_files import random_units, write_selected
from support.servers.kafka_broker import KafkaBroker
from toposieve.io.store import Key
from toposieve.serving.feeding import stored_events
from toposieve.serving.record import decode_event

DAY = "2026-01-01"
SECONDS = 60


@pytest.fixture
def selected(tmp_path: Path) -> Key:
    """Thirty events, of two samples."""
    return write_selected(tmp_path, DAY, random_units(DAY, {"qcd": 20, "ttbar": 10}))


def start(base: Path, broker: KafkaBroker, topic: str, *options: str) -> subprocess.Popen[str]:
    job = [sys.executable, str(REPOSITORY / "jobs/feed_stream.py"), "--base", str(base), "--partition", DAY]
    kafka = ["--brokers", broker.address, "--events", topic]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "jobs")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([*job, *kafka, *options], env=environment, text=True, **pipes)


def ids(broker: KafkaBroker, topic: str) -> list[str]:
    """Of the events that a topic has; each is the key of its message."""
    messages = broker.read(topic)
    found = [decode_event(message.value()).event_id for message in messages]
    assert found == [message.key().decode() for message in messages]
    return found


def test_a_day_is_in_the_topic_once(kafka_broker: KafkaBroker, selected: Key, tmp_path: Path) -> None:
    kafka_broker.make_topics("fed")
    job = start(tmp_path, kafka_broker, "fed", "--rate", "1000")
    said, _ = job.communicate(timeout=SECONDS)
    assert job.returncode == 0, said
    assert "done: 30 events into fed in" in said
    assert ids(kafka_broker, "fed") == [event.event_id for event in stored_events(selected)]


def test_it_begins_anew_until_it_is_ended(kafka_broker: KafkaBroker, selected: Key, tmp_path: Path) -> None:
    kafka_broker.make_topics("fed-again")
    job = start(tmp_path, kafka_broker, "fed-again", "--rate", "1000", "--again")
    deadline = time.monotonic() + SECONDS
    while kafka_broker.committed("fed-again") < 70 and job.poll() is None:
        assert time.monotonic() < deadline
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=SECONDS)
    assert job.returncode == 0, said
    found = ids(kafka_broker, "fed-again")
    assert len({*found}) == len(found)
    assert found[60:70] == [event.event_id for event in stored_events(selected, turn=2)][:10]


def test_a_topic_that_is_not_there_is_said(kafka_broker: KafkaBroker, selected: Key, tmp_path: Path) -> None:
    job = start(tmp_path, kafka_broker, "none")
    said, _ = job.communicate(timeout=SECONDS)
    assert job.returncode == 2
    assert "error: topic none: " in said
