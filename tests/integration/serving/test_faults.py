"""Whatever dies, each event gets one decision."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from support.served_stream import ALIVE_VARIABLE, POINTS
from support.serving_processes import ServedStream, end

EVENTS = range(6000)
BATCH = ("--batch", "64")


def test_kills_lose_and_double_nothing(served: ServedStream) -> None:
    """Of the process at each point of a batch, of the broker at two of them, and of both."""
    served.feed(EVENTS[:3000])
    for point in POINTS:
        assert served.start(*BATCH, "--instance", "a", point=point).wait(60) == -signal.SIGKILL
    for point, fed in (("offsets", 4000), ("committing", 5000)):
        served.feed(EVENTS[fed - 1000 : fed])
        process = served.start(*BATCH, "--instance", "a", point=point, victim=served.broker.process.pid)
        served.wait_for(lambda: not served.broker.process.is_running())
        served.broker.restart()
        served.broker.wait()
        served.wait_for_decisions(fed)
        assert end(process) == 0
    process = served.start(*BATCH, "--instance", "a", milliseconds=30)
    served.feed(EVENTS[5000:])
    served.wait_for_more(100)
    served.broker.kill()
    assert end(process, signal.SIGKILL) == -signal.SIGKILL
    served.broker.restart()
    process = served.start(*BATCH, "--instance", "a")
    served.broker.wait()
    served.wait_for_decisions(len(EVENTS))
    assert end(process) == 0
    served.check_each_once(EVENTS)


def test_a_broker_that_is_away_for_long_is_waited_for(served: ServedStream, tmp_path: Path) -> None:
    """Beyond the time of a transaction, of a membership and of a sign of life, as a minute is with the usual ones."""
    file = tmp_path / "kafka.properties"
    lines = (
        f"bootstrap.servers={served.broker.address}",
        "transaction.timeout.ms=2000",
        "session.timeout.ms=2000",
        "heartbeat.interval.ms=500",
    )
    file.write_text("\n".join(lines), encoding="utf-8")
    served.feed(EVENTS[:2000])
    options = ("--kafka", str(file), "--port", "0", "--instance", "a")
    fault = {"point": "scoring", "victim": served.broker.process.pid}
    process = served.start(*BATCH, *options, variables={ALIVE_VARIABLE: "8"}, **fault)
    served.wait_for(lambda: not served.broker.process.is_running())
    served.wait_for(lambda: served.ask("/ready") == "no\n")
    for _ in range(12):
        assert served.ask("/health") == "yes\n"
        time.sleep(1)
    served.broker.restart()
    served.broker.wait()
    served.feed(EVENTS[2000:2500])
    served.wait_for_decisions(2500)
    assert [served.ask(path) for path in ("/ready", "/health")] == ["yes\n", "yes\n"]
    assert served.metric("toposieve_retried_batches_total") > 0
    assert end(process) == 0
    served.check_each_once(EVENTS[:2500])
