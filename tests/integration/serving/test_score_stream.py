"""Decisions by Spark's stream, on a real broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer

from support.mortal_stream import BROKER_VARIABLE
from support.repository import REPOSITORY
from support.servers.maven import fetch_jars
from support.servers.processes import Unobtainable
from support.serving_data import small_model
from support.serving_processes import PATH, TOPICS, ServedStream
from support.streamed_events import random_event
from toposieve.io.store import root_key
from toposieve.registry import registry_folder
from toposieve.serving.events import Decision
from toposieve.serving.exports import keep_export
from toposieve.serving.record import LARGEST_EVENT_ID, decode_decision, encode_event
from toposieve.serving.scorer import Scorer

POM = REPOSITORY / "requirements/kafka-jars.pom.xml"
SECONDS = 150
JOB, MORTAL = "score_stream", "support.mortal_stream"


@pytest.fixture(scope="module")
def jars() -> Path:
    """Folder of the connector."""
    try:
        return fetch_jars(POM)
    except Unobtainable as reason:
        return pytest.fail(str(reason)) if os.environ.get("CI") else pytest.skip(str(reason))


@pytest.fixture
def models(served: ServedStream) -> dict[int, Scorer]:
    """Versions of the registry."""
    folder = registry_folder(root_key("--base", str(served.base)), "topology")
    for version in (1, 2):
        keep_export(folder, version, small_model(version), events=1, difference=0.0)
    return {version: Scorer.load(folder, version) for version in (1, 2)}


def run(served: ServedStream, jars: Path, module: str, *options: str) -> tuple[int, str]:
    """Run a job of Spark's to its end, with a broker that is started again; returns its exit code and what it said."""
    topics = [part for kind in TOPICS for part in (f"--{kind}", served.topic(kind))]
    base = ["--base", str(served.base), "--brokers", served.broker.address, "--jars", str(jars)]
    command = [sys.executable, "-m", module, *base, *topics, "--master", "local[2]", *options]
    environment = {**os.environ, "PYTHONPATH": PATH, BROKER_VARIABLE: str(served.broker.process.pid)}
    with served.log.open("w", encoding="utf-8") as log:
        job = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        served.wait_for(lambda: job.poll() is not None or not served.broker.process.is_running())
        if not served.broker.process.is_running():
            served.broker.restart()
            served.broker.wait()
        return job.wait(SECONDS), served.said()
    finally:
        job.kill()


def abort_an_event(served: ServedStream, number: int) -> None:
    """Produce an event in a transaction that comes to nothing."""
    producer = Producer({"bootstrap.servers": served.broker.address, "transactional.id": "aborted"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(served.topic("events"), encode_event(random_event(number)), b"aborted")
    assert producer.flush(30) == 0
    producer.abort_transaction(30)


def test_a_killed_stream_loses_nothing_and_repeats_to_the_byte(
    served: ServedStream, models: dict[int, Scorer], jars: Path
) -> None:
    """Though the broker is killed, too, and another model published; what is no event, or aborted, is told apart."""
    record = encode_event(random_event(0))
    served.feed(range(700))
    options = {"message.max.bytes": str(32 << 20), "log_level": 0}
    large = Producer({"bootstrap.servers": served.broker.address, **options})
    long = b"a key as large as no answer may be" + bytes(2 << 20)
    bad = {b"short": (record[:-9], "cut short"), b"large": (bytes(20 << 20), "too big"), long: (b"", "empty")}
    for key, (value, _) in bad.items():
        large.produce(served.topic("events"), value, key)
    assert large.flush(30) == 0
    abort_an_event(served, 1000)
    before = served.broker.process
    code, said = run(served, jars, MORTAL, "--batch", "200")
    assert code == -signal.SIGKILL, said[-3000:]
    assert served.broker.process is not before
    served.publish(2)
    served.feed(range(700, 1000))
    code, said = run(served, jars, JOB, "--batch", "200", "--replay")
    assert code == 0, said[-3000:]
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for message in served.read("decisions"):
        found[message.key() or b""].append(message.value() or b"")
    events = {event.event_id.encode(): event for event in map(random_event, range(1000))}
    assert found.keys() == events.keys()
    assert sum(len(values) == 2 for values in found.values()) in range(190, 201), (
        "the third batch, but for bad messages"
    )
    versions = set()
    for key, values in found.items():
        assert len(set(values)) == 1
        decision = decode_decision(values[0])
        [expected] = models[decision.version].score([events[key]])
        assert isinstance(expected, Decision)
        np.testing.assert_array_equal(decision.logits, expected.logits)
        versions.add((decision.version, len(values)))
    assert {version for version, count in versions if count == 2} == {1}, "as it was decided before"
    assert {version for version, _ in versions} == {1, 2}
    sizes = {key[:LARGEST_EVENT_ID]: (len(key), *what) for key, what in bad.items()}
    refused = served.read("refused")
    assert {message.key() for message in refused} == sizes.keys()
    for message in refused:
        key_bytes, value, fault = sizes[message.key()]
        headers = {name: content.decode() for name, content in message.headers()}
        assert headers["reason"].startswith(fault)
        assert (headers["bytes"], headers["key_bytes"]) == (str(len(value)), str(key_bytes))


def test_spark_names_a_topic_that_is_not_there(served: ServedStream, models: dict[int, Scorer], jars: Path) -> None:
    served.broker.delete_topic(served.topic("decisions"))
    code, said = run(served, jars, JOB)
    assert code == 2, said[-3000:]
    assert f"error: topic {served.topic('decisions')} is not on 127.0.0.1" in said
