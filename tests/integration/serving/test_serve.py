"""Decisions by the stream, on a real broker."""

from __future__ import annotations

import errno
import math
import os
import re
import signal
import struct
import time
import zlib
from functools import partial
from pathlib import Path

from confluent_kafka import Producer

from support.served_stream import NO_ROOM, WITHDRAWN
from support.servers.kafka_broker import PASSWORD, USER
from support.serving_processes import ServedStream, end
from support.streamed_events import random_event
from toposieve.serving.record import LARGEST_EVENT_ID, encode_event

FLAT_TURNS, FLAT_BYTES = 16, 60 << 20


def guarded_settings(served: ServedStream, folder: Path) -> Path:
    """All that it takes but the password."""
    file = folder / "kafka.properties"
    lines = (
        "# a guarded listener",
        f"bootstrap.servers={served.broker.guarded_address}",
        "security.protocol=SASL_SSL",
        f"ssl.ca.location={served.broker.certificate}",
        "sasl.mechanism=PLAIN",
        f"sasl.username={USER}",
    )
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def sealed_with_nan(record: bytes) -> bytes:
    """A whole record, of which the last feature of the last particle before kind and charge is no number."""
    changed = record[:-10] + struct.pack("<f", math.nan) + record[-6:-4]
    return changed + struct.pack("<I", zlib.crc32(changed))


def test_what_is_no_event_is_told_apart_and_the_rest_decided(served: ServedStream, tmp_path: Path) -> None:
    """Also: TLS and a password, which are in a file and in the environment."""
    record = encode_event(random_event(0))
    bad = {
        b"short": (record[:-9], "cut short"),
        b"version": (record[:4] + struct.pack("<H", 2) + record[6:], "other version"),
        b"empty": (b"", "empty"),
        b"large": (bytes(20 << 20), "too big"),
        b"foreign": (b'{"event": 1}', "no record"),
        b"nan": (sealed_with_nan(record), "wrong value"),
        b"damaged": (record[:40] + bytes([record[40] ^ 1]) + record[41:], "damaged"),
        b"a key as large as no answer may be" + bytes(2 << 20): (b"junk", "no record"),
    }
    served.feed(range(5))
    large = Producer({"bootstrap.servers": served.broker.address, "message.max.bytes": str(32 << 20)})
    for key, (value, _) in bad.items():
        large.produce(served.topic("events"), value, key)
    assert large.flush(30) == 0
    served.feed(range(5, 10))
    file = guarded_settings(served, tmp_path)
    process = served.start("--kafka", str(file), variables={"TOPOSIEVE_KAFKA_SASL_PASSWORD": PASSWORD})
    served.wait_for(lambda: len(served.read("refused")) == len(bad))
    served.wait_for_decisions(10)
    assert end(process) == 0
    served.check_each_once(range(10))
    sizes = {key[:LARGEST_EVENT_ID]: (len(key), *what) for key, what in bad.items()}
    for message in served.read("refused"):
        key_bytes, value, fault = sizes.pop(message.key())
        headers = {name: content.decode() for name, content in message.headers()}
        assert headers["reason"].startswith(fault)
        assert headers["topic"] == served.topic("events")
        assert (headers["bytes"], headers["key_bytes"]) == (str(len(value)), str(key_bytes))
        assert value.startswith(message.value() or b"")
    assert not sizes
    assert PASSWORD not in served.said()


def test_a_published_model_takes_over_and_a_rollback_brings_the_former_back(served: ServedStream) -> None:
    """One that is withdrawn, or that a full disk has no room for, changes nothing."""
    process = served.start("--port", "0")
    served.wait_for(lambda: "partitions" in served.said())
    for turn, (version, used) in enumerate([(1, 1), (2, 2), (WITHDRAWN, 2), (NO_ROOM, 2), (1, 1)]):
        served.publish(version)
        served.wait_for(lambda version=version: served.metric("toposieve_published_version") == version)
        served.feed(range(100 * turn, 100 * turn + 50))
        served.wait_for_decisions(100 * turn + 50)
        served.wait_for(lambda used=used: served.metric("toposieve_model_version") == used)
        served.feed(range(100 * turn + 50, 100 * turn + 100))
        served.wait_for_decisions(100 * turn + 100)
        late = {f"ttbar/2026-01-01/a.root:{number}" for number in range(100 * turn + 50, 100 * turn + 100)}
        assert {each.version for each in served.decisions() if each.event_id in late} == {used}
    assert [served.ask(path) for path in ("/ready", "/health")] == ["yes\n", "yes\n"]
    assert served.metric("toposieve_latency_seconds_count") == 500
    served.wait_for(lambda: served.lags() == {0: 0, 1: 0})
    assert end(process) == 0
    served.check_each_once(range(500), versions=(1, 2))
    for reason in (f"version {WITHDRAWN}", os.strerror(errno.ENOSPC)):
        assert re.search(f"version 2 stays in use, for: .*{reason}", served.said())


def test_processes_share_the_partitions_and_take_them_over_while_events_come(served: ServedStream) -> None:
    """From one that hangs, in mid-batch and in mid-transaction, and wakes too late; that is killed; and that ends."""
    short = {"SESSION_TIMEOUT_MS": "1500", "HEARTBEAT_INTERVAL_MS": "300", "TRANSACTION_TIMEOUT_MS": "2000"}
    variables = {f"TOPOSIEVE_KAFKA_{name}": value for name, value in short.items()}
    slow = partial(served.start, "--batch", "32", milliseconds=30, variables=variables)
    with served.feeding(400) as numbers:
        kept = slow()
        served.wait_for_partitions(2, after=0)
        for point in ("scoring", "offsets"):
            after = len(served.said())
            hanging = slow(point=point, number=signal.SIGSTOP)
            served.wait_for_partitions(1, 1, after=after)
            after = len(served.said())
            served.wait_for_partitions(2, after=after)
            served.wait_for_more(200)
            after = len(served.said())
            hanging.send_signal(signal.SIGCONT)
            served.wait_for_partitions(1, 1, after=after)
            after = len(served.said())
            if point == "scoring":
                assert end(hanging, signal.SIGKILL) == -signal.SIGKILL
                served.wait_for_partitions(2, after=after)
        assert end(kept) == 0
        served.wait_for_partitions(2, after=after)
        served.wait_for_more(200)
    served.wait_for_decisions(len(numbers))
    assert end(hanging, signal.SIGINT) == 0
    served.check_each_once(numbers)
    assert "the batch is begun anew" in served.said(), "what hung has tried to commit"


def test_a_topic_that_is_not_there_is_named(served: ServedStream) -> None:
    served.broker.delete_topic(served.topic("refused"))
    assert served.start().wait(60) == 2
    said = served.said().splitlines()[-1]
    assert f"error: topic {served.topic('refused')} is not on 127.0.0.1" in said
    assert "--refused" in said


def test_a_topic_that_is_taken_away_is_named(served: ServedStream) -> None:
    served.feed(range(200))
    process = served.start()
    served.wait_for_decisions(200)
    served.broker.delete_topic(served.topic("events"))
    assert process.wait(60) == 2
    assert f"error: topic {served.topic('events')} is not on 127.0.0.1" in served.said().splitlines()[-1]


def test_memory_stays_flat_where_events_come_faster_than_they_are_decided(served: ServedStream) -> None:
    """Twice as fast for some seconds, after 9,000 that wait already."""
    served.feed(range(50), particles=300)
    served.start("--batch", "50", "--port", "0", milliseconds=100)
    served.wait_for_decisions(50)
    start, memory = served.metric("process_resident_memory_bytes"), []
    served.feed(range(9000), particles=300)
    before = served.lags()
    with served.feeding(1000, particles=300):
        for _ in range(FLAT_TURNS):
            time.sleep(0.5)
            memory.append(served.metric("process_resident_memory_bytes"))
    after = served.lags()
    assert before.keys() == after.keys() == {0, 1}
    assert sum(after.values()) > sum(before.values())
    assert sum(after.values()) * len(encode_event(random_event(1, particles=300))) > 2 * FLAT_BYTES
    assert max(memory) - start < FLAT_BYTES


def test_a_wrong_password_is_said_and_ends_it(served: ServedStream, tmp_path: Path) -> None:
    file = guarded_settings(served, tmp_path)
    process = served.start("--kafka", str(file), variables={"TOPOSIEVE_KAFKA_SASL_PASSWORD": "wrong"})
    assert process.wait(30) == 2
    assert "does not let us in" in served.said().splitlines()[-1]


def test_two_processes_of_one_name_are_told_and_one_goes_on(served: ServedStream) -> None:
    processes = [served.start("--instance", "a") for _ in range(2)]
    served.wait_for(lambda: any(each.poll() is not None for each in processes))
    served.feed(range(300))
    served.wait_for_decisions(300)
    [left] = [each for each in processes if each.poll() is None]
    [ended] = [each for each in processes if each.poll() is not None]
    assert ended.returncode == 2
    assert "another process runs as --instance a" in served.said()
    assert end(left) == 0
    served.check_each_once(range(300))
