"""The servers as fixtures of a session: those that any of its tests uses are started together, then waited for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.servers.processes import Unobtainable
from support.servers.s3_server import S3Server
from support.servers.xrootd_server import XrootdServer

if TYPE_CHECKING:
    from support.servers.hdfs_server import HadoopServer
    from support.servers.kafka_broker import KafkaBroker


class _Servers:
    """Servers by the names of their fixtures, started when they are asked for."""

    def __init__(self, stack: ExitStack, folder: Callable[[str], Path]) -> None:
        self._stack = stack
        self._folder = folder
        self._started: dict[str, Any] = {}

    def start(self, name: str) -> Any:
        """The server, which may not answer yet, or why there is none."""
        if name not in self._started:
            try:
                self._started[name] = _STARTS[name](self._folder(name))
                self._stack.callback(self._started[name].stop)
            except Unobtainable as reason:
                self._started[name] = reason
        return self._started[name]

    def get(self, name: str) -> Any:
        """The server, once it answers; without it the test is left out, or fails in CI."""
        server = self.start(name)
        if isinstance(server, Unobtainable):
            remedy = f"left out: {server}"
            return pytest.fail(remedy, pytrace=False) if os.environ.get("CI") else pytest.skip(remedy)
        return server.wait()


@pytest.fixture(scope="session")
def _servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Servers]:
    """All servers that the session's tests name, starting together."""
    with ExitStack() as stack:
        servers = _Servers(stack, tmp_path_factory.mktemp)
        for name in {name for item in request.session.items for name in _used(item)}:
            servers.start(name)
        yield servers


def _used(item: pytest.Item) -> set[str]:
    """Fixtures of servers that a test uses, by itself or by a parameter such as ``s3``."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = {*getattr(item, "fixturenames", ()), *(f"{value}_server" for value in parameters)}
    return names & set(_STARTS)


@pytest.fixture(scope="session")
def s3_server(_servers: _Servers) -> S3Server:
    """SeaweedFS with a bucket."""
    return _servers.get("s3_server")


@pytest.fixture(scope="session")
def hdfs_server(_servers: _Servers) -> HadoopServer:
    """HDFS alone."""
    return _servers.get("hdfs_server")


@pytest.fixture(scope="session")
def yarn_server(_servers: _Servers) -> HadoopServer:
    """HDFS and YARN."""
    return _servers.get("yarn_server")


@pytest.fixture(scope="session")
def xrootd_server(_servers: _Servers) -> XrootdServer:
    """XRootD, serving an empty folder."""
    return _servers.get("xrootd_server")


@pytest.fixture(scope="session")
def kafka_broker(_servers: _Servers) -> KafkaBroker:
    """Kafka without topics."""
    return _servers.get("kafka_broker")


def _hadoop(folder: Path, yarn: bool = False) -> HadoopServer:
    from support.servers.hdfs_server import HadoopServer

    return HadoopServer(folder / "hadoop", yarn)


def _kafka(folder: Path) -> KafkaBroker:
    from support.servers.kafka_broker import KafkaBroker

    return KafkaBroker(folder / "kafka")


_STARTS: dict[str, Callable[[Path], Any]] = {
    "s3_server": lambda folder: S3Server(folder / "s3"),
    "hdfs_server": _hadoop,
    "yarn_server": lambda folder: _hadoop(folder, yarn=True),
    "kafka_broker": _kafka,
    "xrootd_server": lambda _: XrootdServer(),
}
