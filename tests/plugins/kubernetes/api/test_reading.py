import socket
import threading
from collections.abc import Iterator

import pytest
import urllib3

from support.answers import Answer
from toposieve_airflow.kubernetes.api.reading import Pauses, Reading

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that sends one line and then nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(HEAD + b"6\r\nfirst\n\r\n")
            connection.recv(1)  # until the other side goes away
            connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def test_stop_ends_a_read_that_waits(silent_server: str) -> None:
    reading, lines = Reading(), list[bytes]()
    with urllib3.PoolManager() as pool:
        response = pool.request("GET", silent_server, preload_content=False, timeout=30)

        def read() -> None:
            try:
                lines.extend(line for line in map(note, reading.lines(response)))
            except urllib3.exceptions.HTTPError:  # cut in the middle of an answer
                ended.set()

        first, ended = threading.Event(), threading.Event()

        def note(line: bytes) -> bytes:
            first.set()
            return line

        thread = threading.Thread(target=read)
        thread.start()
        assert first.wait(10)
        reading.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_pauses_grow_to_a_limit_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, taken = Reading(), list[float]()
    monkeypatch.setattr(reading, "pause", taken.append)
    pauses = Pauses(reading)
    for _ in range(6):
        pauses.take()
    pauses.reset()
    pauses.take()
    longest = [1, 2, 4, 8, 15, 15, 1]
    assert all(each / 2 <= seconds <= each for seconds, each in zip(taken, longest, strict=True))


def test_a_finished_answer_is_closed() -> None:
    answer = Answer("one")
    assert list(Reading().lines(answer)) == [b"one\n"]
    assert answer.closed
