"""What a server of decisions tells of itself: numbers for Prometheus, and whether it lives and is ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, make_wsgi_app

ALIVE_SECONDS = 60.0
"""Without a turn of the loop for so long, a process hangs. Waiting for a broker turns it."""
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """Counts since the process started.

    Attributes:
        is_ready: Whether the brokers have answered, and were there in the last turn.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start from zero."""
        self._clock = clock
        self._turned = clock()
        self.is_ready = False
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.decisions = Counter("toposieve_decisions", "Decisions made", ["version"], registry=registry)
        self.refused = Counter("toposieve_refused", "Messages that are no events", ["fault"], registry=registry)
        self.retried = Counter("toposieve_retried_batches", "Batches that were begun anew", registry=registry)
        self.latency = Histogram(
            "toposieve_latency_seconds",
            "From an event's timestamp to its committed decision",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.lag = Gauge("toposieve_lag_messages", "Messages still to be read", ["partition"], registry=registry)
        self.serving = Gauge("toposieve_model_version", "Version of the model in use", registry=registry)
        self.published = Gauge("toposieve_published_version", "Version that is published", registry=registry)

    def turn(self) -> None:
        """Say that the loop goes on."""
        self._turned = self._clock()

    def is_alive(self) -> bool:
        """Whether the loop has turned lately."""
        return self._clock() - self._turned < ALIVE_SECONDS

    def count(self, version: int | None, fault: str | None, number: int) -> None:
        """Count decisions of a version, or messages with a fault."""
        if fault is None:
            self.decisions.labels(str(version)).inc(number)
        else:
            self.refused.labels(fault).inc(number)

    def set_lag(self, lags: Mapping[int, int]) -> None:
        """Show these partitions alone: others read the rest."""
        self.lag.clear()
        for partition, lag in lags.items():
            self.lag.labels(str(partition)).set(lag)


class Endpoint:
    """Answers ``/metrics``, ``/health`` and ``/ready`` while the block runs.

    Args:
        metrics: What to show.
        port: Where to listen, on all addresses; 0 for any that is free.
    """

    def __init__(self, metrics: Metrics, port: int) -> None:
        """Listen."""
        self._metrics = metrics
        self._numbers: Any = make_wsgi_app(metrics.registry)
        self._server = make_server("", port, self._answer, _Server, _Quiet)
        self.port = self._server.server_port

    def __enter__(self) -> Endpoint:
        """Answer from now on."""
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Go away."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = request["PATH_INFO"]
        if path == "/metrics":
            found: Iterable[bytes] = self._numbers(request, start)
            return found
        if path not in ("/health", "/ready"):
            start("404 Not Found", [])
            return [b"/metrics, /health or /ready\n"]
        good = self._metrics.is_ready if path == "/ready" else self._metrics.is_alive()
        start("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"yes\n" if good else b"no\n"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *_: object) -> None:
        """Probes come all the time."""
