"""Whatever dies, each event gets one decision."""

from __future__ import annotations

import signal
import time

from support.served_stream import POINTS
from support.serving_processes import ServedStream, end

EVENTS = range(6000)
BATCH = ("--batch", "64")


def test_kills_lose_and_double_nothing(served: ServedStream) -> None:
    """Of the process at each point of a batch, of the broker while it works, and of both."""
    served.feed(EVENTS[:3000])
    for point in POINTS:
        assert served.start(*BATCH, "--instance", "a", point=point).wait(60) == -signal.SIGKILL
    process = served.start(*BATCH, "--instance", "a", milliseconds=10)
    served.wait_for_more(200)
    served.broker.kill()
    time.sleep(1)
    served.broker.restart()
    served.broker.wait()
    served.feed(EVENTS[3000:])
    served.wait_for_more(200)
    served.broker.kill()
    assert end(process, signal.SIGKILL) == -signal.SIGKILL
    served.broker.restart()
    process = served.start(*BATCH, "--instance", "a")
    served.broker.wait()
    served.wait_for_decisions(len(EVENTS))
    assert end(process) == 0
    served.check_each_once(EVENTS)
