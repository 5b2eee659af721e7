"""Topics of a test's own on the session's broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.servers.kafka_broker import KafkaBroker
from support.serving_processes import ServedStream


@pytest.fixture
def served(kafka_broker: KafkaBroker, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServedStream]:
    """Topics of two partitions, and no process yet."""
    stream = ServedStream(kafka_broker, request.node.name.replace("_", "-"), tmp_path)
    yield stream
    stream.stop()
