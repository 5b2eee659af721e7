"""Stores of every kind, each at a folder of its own."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.servers.s3_server import BUCKET
from toposieve.io import store as stores
from toposieve.io.store import Key, root_key

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _own_connections() -> Iterator[None]:
    """No test finds a store that another one opened with other settings."""
    yield
    stores._opened.cache_clear()


@pytest.fixture
def s3_root(s3_server, monkeypatch: pytest.MonkeyPatch) -> Key:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return root_key("--base", f"s3://{BUCKET}/a b+c%20/{next(_numbers)}")


@pytest.fixture
def hdfs_root(hdfs_server) -> Key:
    return root_key("--base", f"{hdfs_server.url}/a b+c%20/{next(_numbers)}")


@pytest.fixture
def file_root(tmp_path: Path) -> Key:
    return root_key("--base", str(tmp_path / "a b+c%20" / "base"))


@pytest.fixture(params=["file", "s3", "hdfs"])
def root(request: pytest.FixtureRequest) -> Key:
    """A folder that can be written to and is not there yet, in each kind of store."""
    return request.getfixturevalue(f"{request.param}_root")


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port where somebody accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener.getsockname()[1]


@pytest.fixture
def make_xrootd_key(xrootd_server) -> Callable[[str, bytes], Key]:
    """Puts a file on the XRootD server, and gives its key."""

    def make(name: str, content: bytes) -> Key:
        path = xrootd_server.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return root_key("--raw", xrootd_server.url) / name

    return make
