import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support.gangs import JOBS, free_addresses, tf_config
from toposieve.errors import InvalidInputError
from toposieve.training.gang import Gang, PeersMissingError, gang_from_environment, meet, threads_per_worker


def test_without_tf_config_a_worker_is_alone() -> None:
    gang = gang_from_environment({})
    assert (gang.workers, gang.index, gang.is_chief, gang.peers) == (1, 0, True, ())


def test_tf_config_gives_the_gang() -> None:
    gang = gang_from_environment({"TF_CONFIG": tf_config(["a:1", "b:2", "c:3"], 1)})
    assert (gang.workers, gang.index, gang.is_chief, gang.peers) == (3, 1, False, ("a:1", "c:3"))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"cluster": {"worker": ["a:1"]}}),
        json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}),
        json.dumps({"cluster": {"worker": ["a:1"], "chief": ["b:1"]}, "task": {"type": "worker", "index": 0}}),
        tf_config(["a:1"], 1),
        tf_config(["a"], 0),
    ],
)
def test_a_wrong_tf_config_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="TF_CONFIG"):
        gang_from_environment({"TF_CONFIG": text})


@pytest.mark.parametrize(
    ("addresses", "cores", "threads"),
    [((), 2, 2), (("a:1", "a:2"), 2, 1), (("a:1", "a:2", "a:3"), 2, 1), (("a:1", "b:1"), 2, 2), (("[::1]:1",), 3, 3)],
)
def test_workers_on_one_machine_share_its_cores(addresses: tuple[str, ...], cores: int, threads: int) -> None:
    assert threads_per_worker(Gang(0, addresses), cores) == threads


def meet_in_threads(gangs: list[tuple[Gang, str]], timeout: float) -> list[Exception | None]:
    outcomes: list[Exception | None] = [None] * len(gangs)

    def one(place: int, gang: Gang, token: str) -> None:
        try:
            meet(gang, token, timeout)
        except (PeersMissingError, InvalidInputError) as error:
            outcomes[place] = error

    threads = [threading.Thread(target=one, args=(place, *each)) for place, each in enumerate(gangs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def has_ipv6() -> bool:
    """Whether this machine has IPv6 at all: that a socket knows the family does not say so."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_workers_meet_over_either_family(host: str) -> None:
    if host == "[::1]" and not has_ipv6():
        pytest.skip("this machine has no ::1")
    addresses = tuple(address.replace("localhost", host) for address in free_addresses(3))
    assert meet_in_threads([(Gang(index, addresses), "run") for index in (2, 0, 1)], 20) == [None, None, None]


def test_one_worker_waits_for_nobody() -> None:
    meet(Gang(), "run", timeout=0)


def test_missing_workers_are_named() -> None:
    addresses = tuple(free_addresses(3))
    chief, other = meet_in_threads([(Gang(0, addresses), "run"), (Gang(2, addresses), "run")], 3.0)
    assert isinstance(chief, PeersMissingError)
    assert addresses[1] in str(chief)
    assert addresses[2] not in str(chief)
    assert isinstance(other, PeersMissingError)


def test_a_missing_chief_is_named() -> None:
    addresses = tuple(free_addresses(2))
    with pytest.raises(PeersMissingError, match=f"chief at {addresses[0]}"):
        meet(Gang(1, addresses), "run", timeout=0.3)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("", 0)) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(PeersMissingError, match=f"cannot listen at {address}"):
            meet(Gang(0, (address, "localhost:1")), "run", timeout=0.3)


def test_a_worker_of_another_run_is_refused() -> None:
    addresses = tuple(free_addresses(2))
    chief, _ = meet_in_threads([(Gang(0, addresses), "mine"), (Gang(1, addresses), "theirs")], 3.0)
    assert isinstance(chief, InvalidInputError)
    assert "came for run theirs, this is run mine" in str(chief)


def test_the_chief_ignores_strangers() -> None:
    addresses = tuple(free_addresses(2))
    host, port = addresses[0].split(":")

    def probe_then_report() -> None:
        connected = False
        while not connected:
            try:
                with socket.create_connection((host, int(port))) as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    connected = True
            except ConnectionRefusedError:
                continue
        meet(Gang(1, addresses), "run", timeout=20)

    thread = threading.Thread(target=probe_then_report)
    thread.start()
    meet(Gang(0, addresses), "run", timeout=20)
    thread.join()


def test_sigterm_ends_a_process_whose_main_thread_is_blocked(tmp_path: Path) -> None:
    script = tmp_path / "blocked.py"
    script.write_text(
        "import logging, threading\n"
        "from toposieve.training.gang import exit_on_sigterm\n"
        "logging.basicConfig()\n"
        "exit_on_sigterm()\n"
        "exit_on_sigterm()\n"
        "print('ready', flush=True)\n"
        "lock = threading.Lock()\n"
        "lock.acquire()\n"
        "lock.acquire()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(JOBS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "SIGTERM" in errors
