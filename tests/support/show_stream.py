"""Events through Kafka into decisions, on this machine: a broker of our own, a producer, ``jobs/serve.py``.

    make stream                          # a minute; STREAM="--seconds 600 --rate 1000 --base DATA"

The model is that which is published and exported under --base, and the events are those selected there, again and
again. Where nothing is (run `make demo`), models have random weights, and so do events have
random features. A version that is the only one is published under another number, too. Each second a line:

      s  events/s  decisions/s  p50 ms  p99 ms  behind  versions
      7       200          201      12      38       0  1:201

At a third of the time another version is published, at two thirds the first one comes back; now and then a message is
no event. It ends with what was lost, what was decided twice, and the latency without that of a cold start.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event as Signal
from threading import Thread

import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from support.repository import REPOSITORY
from support.servers.kafka_broker import KafkaBroker
from support.servers.processes import ServerProcess, Unobtainable
from support.serving_data import make_event, portable
from support.serving_processes import point_to
from toposieve import registry
from toposieve.io.store import Key, root_key
from toposieve.serving.events import Event
from toposieve.serving.exports import EXPORTS, keep_export, read_portable
from toposieve.serving.feeding import stored_events
from toposieve.serving.record import decode_decision, encode_event

NAME = "topology"
EVENTS, DECISIONS, REFUSED = TOPICS = ("events", "decisions", "refused")
REPLAYED = 2000
JUNK_EVERY = 997
SETTLED_SECONDS = 5.0
"""After which a broker and processes that have just started are no longer seen in the latency."""


def arg_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="work", help="where a published model and selected events may be")
    parser.add_argument("--seconds", type=float, default=60, help="how long events come")
    parser.add_argument("--rate", type=float, default=200, help="events per second")
    return parser


def main(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="toposieve-stream-") as scratch:
        print("starting Kafka")
        broker = KafkaBroker(Path(scratch) / "kafka")
        try:
            return show(args, broker, Path(scratch))
        except KeyboardInterrupt:
            return 130
        finally:
            broker.stop()


def show(args: argparse.Namespace, broker: KafkaBroker, scratch: Path) -> int:
    base = root_key("--base", str(scratch / "base"))
    versions = copy_models(root_key("--base", args.base), base)
    events = list(itertools.islice(replayed(root_key("--base", args.base)), REPLAYED)) or made_up()
    broker.wait().make_topics(*TOPICS)
    command = [sys.executable, str(REPOSITORY / "jobs/serve.py"), "--base", str(base), "--brokers", broker.address]
    serve = ServerProcess([*command, "--instance", "a", "--look", "1"], scratch / "serve")
    serve.wait_until(lambda: "partitions:" in serve.log.read_text(encoding="utf-8"))
    print(f"serving; versions {', '.join(map(str, versions))}; log in {serve.log}")
    source = Source(broker, events, args.rate)
    found, late = watch(broker, source, args.seconds, registry.registry_folder(base, NAME), versions)
    serve.signal(signal.SIGTERM)
    twice = sum(count - 1 for count in found.values())
    print(f"{source.sent:,} events, {len(found):,} decided, {source.sent - len(found)} lost, {twice} twice; ", end="")
    print(f"{len(broker.read(REFUSED))} of {source.junk} messages that are no events were refused")
    p50, p99 = quantiles(late)
    print(f"latency after the first {SETTLED_SECONDS:.0f} s: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    return int(twice or source.sent != len(found))


class Source:
    """Produces events at a rate, in a thread of its own, until it is stopped."""

    def __init__(self, broker: KafkaBroker, events: Sequence[Event], rate: float) -> None:
        self.sent = self.junk = 0
        self._ended = Signal()
        self._times: dict[str, float] = {}
        self._producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 0})
        self._thread = Thread(target=self._run, args=(events, rate), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._producer.flush(30)

    def produced(self, event_id: str) -> float:
        """When an event was, by ``time.monotonic``."""
        return self._times[event_id]

    def _run(self, events: Sequence[Event], rate: float) -> None:
        start = time.monotonic()
        while not self._ended.wait(max(0.0, start + self.sent / rate - time.monotonic())):
            event = events[self.sent % len(events)]
            event_id = f"{event.event_id}#{self.sent // len(events)}"
            value = encode_event(Event(event_id, event.high_level, event.particles))
            self._times[event_id] = time.monotonic()
            self._producer.produce(EVENTS, value, event_id.encode())
            self.sent += 1
            if self.sent % JUNK_EVERY == 0:
                self._producer.produce(EVENTS, value[:-3], b"junk")
                self.junk += 1
            self._producer.poll(0)


def arrived(consumer: Consumer, seconds: float) -> tuple[float, list[Message]]:
    """All messages that are there once there is one, and when, by ``time.monotonic``; none after so many seconds."""
    first = consumer.consume(1, seconds)
    now = time.monotonic()
    return now, [*first, *consumer.consume(1000, 0)] if first else []


def quantiles(late: Sequence[float]) -> tuple[float, float]:
    """Within which half of the events are decided, and 99 of 100."""
    p50, p99 = np.quantile(late, [0.5, 0.99]).tolist() if late else (np.nan, np.nan)
    return p50, p99


def watch(
    broker: KafkaBroker, source: Source, seconds: float, folder: Key, versions: Sequence[int]
) -> tuple[Counter[str], list[float]]:
    """Print a line each second; returns how often each event was decided, and in what milliseconds once settled."""
    options = {"isolation.level": "read_committed", "enable.auto.commit": False, "fetch.wait.max.ms": 10}
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "watch", **options})
    consumer.assign([TopicPartition(DECISIONS, 0, 0)])
    found, settled = Counter[str](), list[float]()
    turns = [(seconds / 3, versions[-1]), (2 * seconds / 3, versions[0])] if len(versions) > 1 else []
    print("    s  events/s  decisions/s  p50 ms  p99 ms  behind  versions")
    start, before = time.monotonic(), 0
    for second in itertools.count(1):
        if turns and second > turns[0][0]:
            print(f"      version {turns[0][1]} is published")
            point_to(folder, turns.pop(0)[1])
        late, made = [], Counter[int]()
        while (left := start + second - time.monotonic()) > 0:
            now, messages = arrived(consumer, min(left, 0.05))
            for message in messages:
                decision = decode_decision(message.value() or b"")
                found[decision.event_id] += 1
                made[decision.version] += 1
                late.append(1000 * (now - source.produced(decision.event_id)))
        settled += late if second > SETTLED_SECONDS else []
        sent, (p50, p99) = source.sent, quantiles(late)
        shown = " ".join(f"{version}:{count}" for version, count in sorted(made.items()))
        behind = sent - len(found)
        print(
            f"{second:5}  {sent - before:8}  {made.total():11}  {p50:6.0f}  {p99:6.0f}  {behind:6}  {shown}", flush=True
        )
        before = sent
        if second >= seconds:
            source.stop()
            if len(found) == source.sent or second > seconds + 30:
                break
    consumer.close()
    return found, settled


def copy_models(base: Key, copy: Key) -> list[int]:
    """Fill a registry to play with; returns versions that can be served, the published one first."""
    folder, played = (registry.registry_folder(each, NAME) for each in (base, copy))
    exported = [int(name.partition(".")[0]) for name in (folder / EXPORTS).list()]
    published = registry.published(folder)
    if published is not None and published.pointer.version in exported:
        first = published.pointer.version
        contents = {first: read_portable(folder, first)}
        contents |= {other: read_portable(folder, other) for other in sorted(exported)[-2:] if other != first}
        if len(contents) == 1:
            print(f"version {first} is the only one: it is published as version {first + 1}, too")
            contents[first + 1] = contents[first]
    else:
        print(f"nothing is published and exported under {base}: two models of random weights stand in")
        contents = {number: portable(name) for number, name in enumerate(("inclusive", "hlf"), 1)}
    for version, content in contents.items():
        keep_export(played, version, content, events=0, difference=0.0)
    point_to(played, next(iter(contents)))
    return list(contents)


def replayed(base: Key) -> Iterator[Event]:
    """Selected events of all days under a base."""
    for day in sorted({name.partition("/")[0] for name in (base / "selected").list()}):
        yield from stored_events(base / "selected" / day)


def made_up() -> list[Event]:
    """As many particles as true events have, and no physics."""
    lengths = np.random.default_rng(1).integers(200, 700, REPLAYED)
    return [make_event(number, length) for number, length in enumerate(lengths.tolist())]


if __name__ == "__main__":
    try:
        sys.exit(main(arg_parser().parse_args()))
    except Unobtainable as reason:
        sys.exit(f"error: {reason}")
