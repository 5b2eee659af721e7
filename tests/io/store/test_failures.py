"""What goes wrong with stores: one sentence with the remedy, soon, and outages that pass are ridden out."""

from __future__ import annotations

import http.server
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.servers.hdfs_server import HadoopServer
from support.servers.processes import free_ports
from support.servers.s3_server import BUCKET, S3Server, environment
from support.servers.xrootd_server import XrootdServer
from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.io.store import Key, _remote, root_key

READER = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reader-secret"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits themselves are asserted by a test; waiting for them shows nothing more."""
    monkeypatch.setattr(_remote, "FIRST_SECONDS", 1.0)
    monkeypatch.setattr(_remote, "OUTAGE_SECONDS", 2.0)
    monkeypatch.setattr(_remote, "ANSWER_SECONDS", 3.0)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str], None]]:
    """Sets what an S3 server answers to every request: a status and a code."""
    said = {"status": 500, "code": ""}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>{said['code']}</Code><Message>No.</Message></Error>".encode()
            if said["status"] == 200:
                body = b"<ListBucketResult/>"
            self.send_response(int(said["status"]))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.send_response(int(said["status"]))
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        set_environment(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        yield lambda status, code: said.update(status=status, code=code)
        server.shutdown()


def set_environment(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)


def test_limits() -> None:
    # The last request may begin when the first limit is over.
    assert _remote.FIRST_SECONDS + _remote.ANSWER_SECONDS < 60
    assert _remote.OUTAGE_SECONDS == 180


def test_a_missing_bucket_is_not_made(s3_root: Key, s3_server: S3Server) -> None:
    key = root_key("--base", "s3://no-such-bucket/base") / "a"
    for verb in (key.stat, key.list, key.read_bytes, lambda: key.write_bytes(b"1"), lambda: key.create_if_absent(b"")):
        with pytest.raises(InvalidInputError, match="s3://no-such-bucket/base: there is no such bucket: make it"):
            verb()
    assert not s3_server.has_bucket("no-such-bucket")
    assert s3_server.has_bucket(BUCKET)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "the access key is unknown: check AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret key is wrong: check AWS_ACCESS_KEY_ID"),
    ],
)
def test_wrong_keys(s3_root: Key, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], message: str) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError, match=message):
        (s3_root / "a").write_bytes(b"1")


def test_no_keys(s3_root: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    # Where a role would come from; nobody listens there.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(InvalidInputError, match="no credentials: set AWS_ACCESS_KEY_ID"):
        s3_root.list()


@pytest.mark.parametrize("endpoint", ["localhost:9000", "foo bar", "https://", "ftp://x", "http://[::1", "minio"])
def test_an_endpoint_that_is_no_url(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(InvalidInputError, match=rf"AWS_ENDPOINT_URL is {re.escape(endpoint)}: write https://HOST:PORT"):
        root_key("--base", "s3://lhc/x").list()


def test_a_machine_without_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:1")
    with pytest.raises(InvalidInputError, match=r"s3://lhc cannot be used .* install ca-certificates, or name"):
        root_key("--base", "s3://lhc/x").list()


def test_a_reader_may_read_and_not_write(s3_root: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    key = s3_root / "a"
    key.write_bytes(b"1")
    from toposieve.io import store

    store._opened.cache_clear()
    for name, value in READER.items():
        monkeypatch.setenv(name, value)
    assert key.read_bytes() == b"1"
    for verb in (lambda: key.write_bytes(b"2"), lambda: key.create_if_absent(b"2"), key.delete):
        with pytest.raises(InvalidInputError, match="/a: not allowed"):
            verb()


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "InvalidToken", "the session token is not valid"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (403, "", "not allowed, or with wrong keys"),
        (301, "PermanentRedirect", "another region: set AWS_REGION"),
        (400, "Whatever", "the store refuses the request"),
    ],
)
def test_what_s3_refuses(answer: Callable[[int, str], None], status: int, code: str, message: str) -> None:
    answer(status, code)
    with pytest.raises(InvalidInputError, match=message):
        root_key("--base", "s3://lhc/base").list()


@pytest.mark.usefixtures("impatient")
def test_expired_credentials_are_worth_a_retry(answer: Callable[[int, str], None]) -> None:
    key = root_key("--base", "s3://lhc/base")
    answer(200, "")
    key.list()
    answer(400, "ExpiredToken")
    for verb in (key.list, (key / "a").stat, (key / "a").read_bytes):
        with pytest.raises(UnavailableError, match=r"s3://lhc/base.*: the credentials have expired: get new ones, and"):
            verb()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_what_s3_cannot_do_now(answer: Callable[[int, str], None], status: int) -> None:
    answer(status, "SlowDown")
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:\d+ does not answer"):
        root_key("--base", "s3://lhc/base").list()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("url", ["s3://lhc/base", "hdfs://{host}/base", "root://{host}//raw"])
def test_a_dead_host_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = f"127.0.0.1:{free_ports(1)[0]}"
    set_environment(monkeypatch, f"http://{host}")
    start = time.monotonic()
    with pytest.raises(UnavailableError, match=f"{host} does not answer .*check its name and port"):
        root_key("--base", url.format(host=host)).list()
    # With the limit of one second in place of the true one, what remains must fit into a minute.
    assert time.monotonic() - start < 1 + (60 - 40)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("url", ["hdfs://no-host.invalid:8020/base", "root://no-host.invalid//raw"])
def test_a_host_that_nobody_knows_is_named(url: str) -> None:
    with pytest.raises(UnavailableError, match=r"no-host\.invalid.* does not answer"):
        root_key("--base", url).list()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("url", ["s3://lhc/base", "hdfs://{host}/base", "root://{host}//raw"])
def test_a_host_that_accepts_and_says_nothing_is_named(
    url: str, mute_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"127.0.0.1:{mute_port}"
    set_environment(monkeypatch, f"http://{host}")
    start = time.monotonic()
    with pytest.raises(UnavailableError, match=f"{host} does not answer"):
        root_key("--base", url.format(host=host)).list()
    # Two requests: the one within the limit of one second, and the last.
    assert time.monotonic() - start < 1 + 2 * _remote.ANSWER_SECONDS + 20  # the machine may be busy


def test_https_is_not_left_for_http(monkeypatch: pytest.MonkeyPatch, mute_port: int) -> None:
    monkeypatch.setattr(_remote, "FIRST_SECONDS", 0.0)
    set_environment(monkeypatch, f"https://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(UnavailableError, match="does not answer"):
        root_key("--base", "s3://lhc/base").list()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://", "names no bucket"),
        ("hdfs://no-such-service/base", "no such name node: write hdfs://HOST:PORT"),
        ("root:///raw", "names no host"),
    ],
)
def test_urls_that_name_nothing(url: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Key(url).list()


@pytest.mark.usefixtures("impatient")
def test_a_name_node_in_safe_mode(hdfs_root: Key, hdfs_server: HadoopServer) -> None:
    key = hdfs_root / "a"
    key.write_bytes(b"1")
    hdfs_server.safe_mode(True)
    try:
        assert key.read_bytes() == b"1"
        for verb in (lambda: key.write_bytes(b"2"), lambda: (hdfs_root / "b").create_if_absent(b"2"), key.delete):
            with pytest.raises(UnavailableError, match="safe mode: wait, or hdfs dfsadmin"):
                verb()
    finally:
        hdfs_server.safe_mode(False)
    assert key.read_bytes() == b"1"


def test_hdfs_is_found_by_its_configuration(
    hdfs_root: Key, hdfs_server: HadoopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hdfs_root / "a").write_bytes(b"1")
    for name, value in hdfs_server.environment.items():
        monkeypatch.setenv(name, value)
    path = hdfs_root.root.removeprefix(hdfs_server.url)
    assert (root_key("--base", f"hdfs://{path}") / "a").read_bytes() == b"1"


def test_xrootd_gives_what_it_has(make_xrootd_key: Callable[[str, bytes], Key]) -> None:
    content = bytes(range(256)) * 40_000  # 10 MB: several segments, and several parts of a copy
    key = make_xrootd_key("sample/day 1/a+b%20.root", content)
    folder = key.parent.parent
    found = folder.list()
    assert {name: stat.size for name, stat in found.items()} == {"day 1/a+b%20.root": len(content)}
    assert folder.list("day 2") == {}
    assert set(folder.list("day 1/a")) == set(found)
    assert key.stat() == found["day 1/a+b%20.root"]
    assert folder.stat() is None
    assert key.checksum() == adler32(content)
    assert key.read_bytes() == content
    ranges = [(5_000_000, 5_000_000), (0, 3), (7, 0), (len(content) - 2, 9), (len(content) + 5, 1)]
    assert list(key.read_ranges(ranges)) == [content[offset : offset + length] for offset, length in ranges]
    many = [(3 * number, 2) for number in range(2500)]
    assert list(key.read_ranges(many)) == [content[offset : offset + 2] for offset, _ in many]


def adler32(content: bytes) -> str:
    import zlib

    return f"{zlib.adler32(content):08x}"


def test_a_file_that_xrootd_lacks(make_xrootd_key: Callable[[str, bytes], Key]) -> None:
    missing = make_xrootd_key("there/a", b"1").parent / "missing"
    assert missing.stat() is None
    assert missing.list() == {}
    for verb in (missing.read_bytes, missing.checksum, lambda: missing.read_ranges([(0, 1)])):
        with pytest.raises(FileNotFoundError, match="there/missing"):
            verb()


def test_xrootd_is_read_only(make_xrootd_key: Callable[[str, bytes], Key]) -> None:
    key = make_xrootd_key("there/a", b"1")
    for verb in (lambda: key.write_bytes(b"2"), lambda: key.create_if_absent(b"2"), key.delete):
        with pytest.raises(InvalidInputError, match="read only: give --raw with root:// and --base elsewhere"):
            verb()


def test_xrootd_may_send_on(make_xrootd_key: Callable[[str, bytes], Key], xrootd_server: XrootdServer) -> None:
    make_xrootd_key("sent/on/a", b"12345")
    redirector = XrootdServer(redirect_to=xrootd_server.host).wait()
    try:
        root = root_key("--raw", redirector.url)
        assert set((root / "sent").list()) == {"on/a"}
        key = root / "sent" / "on" / "a"
        assert list(key.read_ranges([(1, 2)])) == [b"23"]
        assert key.checksum() == adler32(b"12345")
        assert not (redirector.data / "sent").exists()
    finally:
        redirector.stop()


@pytest.mark.parametrize("kind", ["s3", "hdfs"])
def test_an_outage_is_ridden_out(kind: str, request: pytest.FixtureRequest) -> None:
    root: Key = request.getfixturevalue(f"{kind}_root")
    server = request.getfixturevalue(f"{kind}_server")
    (root / "before").write_bytes(b"1")
    server.kill()
    back = threading.Timer(5, server.restart) if kind == "hdfs" else None
    start = time.monotonic()
    if back:
        back.start()
        write_all(root)
        back.join()
    else:
        writer = threading.Thread(target=write_all, args=(root,))
        writer.start()
        # The new server dies with the thread that starts it: this one.
        time.sleep(5)
        server.restart()
        writer.join()
    assert time.monotonic() - start >= 5
    assert set(root.list()) == {"before", "after", "created"}
    assert (root / "after").read_bytes() == b"2"


def write_all(root: Key) -> None:
    (root / "after").write_bytes(b"2")
    assert (root / "created").create_if_absent(b"3")


def test_an_outage_of_xrootd_is_ridden_out(
    make_xrootd_key: Callable[[str, bytes], Key], xrootd_server: XrootdServer
) -> None:
    key = make_xrootd_key("there/a", b"12345")
    assert list(key.read_ranges([(0, 1)])) == [b"1"]
    read: list[bytes] = []
    xrootd_server.kill()
    reader = threading.Thread(target=lambda: read.extend(key.read_ranges([(1, 2)])))
    reader.start()
    time.sleep(2)
    xrootd_server.restart()
    reader.join()
    assert read == [b"23"]


def test_a_local_base_that_may_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="choose another --base"):
        (root_key("--base", str(tmp_path / "file" / "base")) / "a").write_bytes(b"")
