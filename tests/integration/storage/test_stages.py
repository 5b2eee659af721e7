"""Every Spark stage on every kind of store: what it publishes is equal to the byte. One session serves all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import chain
from support.servers.hdfs_server import HadoopServer
from support.servers.s3_server import BUCKET, S3Server
from support.servers.xrootd_server import XrootdServer
from toposieve.io.store import Key, root_key


@pytest.fixture(scope="session")
def _environment(s3_server: S3Server) -> Iterator[None]:
    """What tasks need: Spark's workers inherit it from the session, which must start after this."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def local(_environment: None, spark: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base on this machine's disk, with every stage done."""
    base = tmp_path_factory.mktemp("local")
    chain.write_raw(base / "raw")
    run_chain(str(base), str(base / "raw"))
    return base


def run_chain(base: str, raw: str, *, stored: bool = True) -> None:
    """Every stage; the selection reads stored events, or the ROOT files."""
    chain.run_ingest(base, raw)
    if not stored:
        events = root_key("--base", base) / chain.FOLDERS["ingest"]
        events.delete_below(*(name for name in events.list() if name.endswith(".parquet")))
    chain.run_select(base, raw)
    chain.run_prepare(base)


@pytest.fixture
def s3_base(s3_server: S3Server) -> str:
    return f"s3://{BUCKET}/stages"


@pytest.fixture
def hdfs_base(hdfs_server: HadoopServer) -> str:
    return f"{hdfs_server.url}/stages"


@pytest.mark.parametrize("kind", ["s3", "hdfs"])
def test_every_stage_publishes_the_same_bytes(kind: str, local: Path, request: pytest.FixtureRequest) -> None:
    base = request.getfixturevalue(f"{kind}_base")
    run_chain(base, str(local / "raw"))
    for folder in chain.FOLDERS.values():
        assert chain.published(root_key("--base", base) / folder) == chain.published(Key(str(local)) / folder)


def test_raw_files_on_s3_give_the_same_bytes(s3_base: str, local: Path) -> None:
    base = f"{s3_base}-raw"
    for path in (local / "raw").rglob("*.root"):
        (root_key("--base", base) / path.relative_to(local).as_posix()).write_bytes(path.read_bytes())
    run_chain(base, f"{base}/raw", stored=False)
    for stage in ("select", "prepare"):
        folder = chain.FOLDERS[stage]
        assert chain.published(root_key("--base", base) / folder) == chain.published(Key(str(local)) / folder)


def test_raw_files_on_xrootd_give_the_same_bytes(xrootd_server: XrootdServer, local: Path, tmp_path: Path) -> None:
    shutil.copytree(local / "raw", xrootd_server.data / "raw")
    run_chain(str(tmp_path), f"{xrootd_server.url}/raw", stored=False)
    for stage in ("select", "prepare"):
        folder = chain.FOLDERS[stage]
        assert chain.published(Key(str(tmp_path)) / folder) == chain.published(Key(str(local)) / folder)


def test_a_second_run_on_a_store_redoes_nothing(s3_base: str, local: Path, caplog: pytest.LogCaptureFixture) -> None:
    chain.run_ingest(s3_base, str(local / "raw"))
    with caplog.at_level("INFO"):
        run_chain(s3_base, str(local / "raw"))
    assert caplog.text.count("nothing to do") == len(chain.FOLDERS)


def test_no_key_is_in_what_was_published(s3_server: S3Server, s3_base: str, local: Path) -> None:
    run_chain(s3_base, str(local / "raw"))
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    base = root_key("--base", s3_base)
    texts = [(base / name).read_text() for name in base.list() if name.endswith(".json")]
    assert texts
    assert not [text for text in texts if secret in text]
