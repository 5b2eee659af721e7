"""How long a classifier takes for one event, for which a trigger waits, and for a batch, which a farm pays for."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from toposieve.io.store import Key

LATENCY_NAME = "latency.json"

TABLE_BATCHES = (1, 1024)
"""Events in a batch of a classifier of high-level features."""
PARTICLE_BATCHES = (1, 32)
"""Of one that takes particles."""

ROUNDS = 5
ROUND_SECONDS = 0.15
"""Two batches take a second and a half; a call that takes longer is a round."""

logger = logging.getLogger(__name__)


def measure(
    calls: Mapping[int, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> list[dict[str, float]]:
    """Time calls one after the other, after one to warm up: of each, the median over rounds.

    Args:
        calls: Events in a batch → classifies one.
        clock: Seconds.

    Returns:
        Of each: ``batch``, events in it; ``p50`` and ``p99``, quantiles of the seconds that a call takes.
    """
    found = []
    for batch, call in calls.items():
        call()
        rounds = [np.quantile(_round(call, clock), [0.5, 0.99]) for _ in range(ROUNDS)]
        p50, p99 = np.median(rounds, axis=0).tolist()
        found.append({"batch": batch, "p50": p50, "p99": p99})
    return found


def _round(call: Callable[[], object], clock: Callable[[], float]) -> list[float]:
    """Seconds of each call of a round, one at least."""
    times = [clock()]
    while len(times) == 1 or times[-1] - times[0] < ROUND_SECONDS:
        call()
        times.append(clock())
    seconds: list[float] = np.diff(times).tolist()
    return seconds


def write_latency(scores: Key, latency: list[dict[str, float]]) -> None:
    """Keep a classifier's latency beside its scores; no part of their manifest, for it is another each time."""
    (scores / LATENCY_NAME).write_text(json.dumps(latency) + "\n")


def read_latency(scores: Key) -> list[dict[str, Any]] | None:
    """What :func:`write_latency` has kept; None if nothing."""
    key = scores / LATENCY_NAME
    try:
        found: list[dict[str, Any]] = json.loads(key.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        logger.warning("%s is no latency (%s); it is left out", key, error)
        return None
    return found
