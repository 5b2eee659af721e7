"""The processes that train together: who they are, and how one of them ends when it must. No TensorFlow here.

TensorFlow waits for a missing peer for ever and swallows SIGTERM; what is here makes both end the worker.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from toposieve.errors import InvalidInputError

PEERS_MISSING_EXIT_CODE = 75  # EX_TEMPFAIL: worth a retry
SIGTERM_EXIT_CODE = 128 + signal.SIGTERM
HELLO_SECONDS = 5.0
RETRY_SECONDS = 0.2
_MESSAGE_BYTES = 256
_GO = b"go"

logger = logging.getLogger(__name__)


class PeersMissingError(Exception):
    """The workers of a gang did not all come in time."""


@dataclass(frozen=True)
class Gang:
    """The workers of one run, as ``TF_CONFIG`` describes them."""

    index: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def workers(self) -> int:
        """Number of workers; one without ``TF_CONFIG``."""
        return max(1, len(self.addresses))

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes checkpoints and results."""
        return self.index == 0

    @property
    def neighbours(self) -> int:
        """Workers on this worker's machine, itself included."""
        hosts = [_host_and_port(address)[0] for address in self.addresses]
        return hosts.count(hosts[self.index]) if hosts else 1

    @property
    def peers(self) -> tuple[str, ...]:
        """Addresses of the other workers."""
        return tuple(address for index, address in enumerate(self.addresses) if index != self.index)


def threads_per_worker(gang: Gang, cores: int) -> int:
    """Threads that TensorFlow may use for one operation: this worker's share of the cores of its machine.

    With more, two workers on two cores wait for each other's threads: 1,050 events/s in place of 1,740.

    >>> threads_per_worker(Gang(0, ("localhost:1", "localhost:2", "elsewhere:1")), cores=8)
    4
    """
    return max(1, cores // gang.neighbours)


def gang_from_environment(environment: Mapping[str, str]) -> Gang:
    """Read ``TF_CONFIG``: ``{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}``.

    Raises:
        InvalidInputError: It is set but does not describe a worker of a cluster of workers.
    """
    text = environment.get("TF_CONFIG")
    if not text:
        return Gang()
    try:
        value = json.loads(text)
        addresses, index, kind = value["cluster"]["worker"], int(value["task"]["index"]), value["task"]["type"]
        ports = [_host_and_port(address)[1] for address in addresses]
        known = all(ports) and set(value["cluster"]) == {"worker"} and kind == "worker" and 0 <= index < len(addresses)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"TF_CONFIG is not a cluster and a task ({error!r}): {text}") from None
    if not known:
        raise InvalidInputError(f"TF_CONFIG must give one of its cluster's workers as the task: {text}")
    return Gang(index, tuple(str(address) for address in addresses))


def meet(gang: Gang, token: str, timeout: float) -> None:
    """Return once all workers have come: they report to the chief, at its address in ``TF_CONFIG``; it lets them go.

    TensorFlow would wait for a missing peer for ever, and hold Python's lock meanwhile: no thread could end it.

    Args:
        gang: The workers.
        token: Identity of the run, the same for all.
        timeout: Seconds to wait at most.

    Raises:
        PeersMissingError: Some did not come in time; the message names them.
        InvalidInputError: A worker came for another run.
    """
    if gang.workers == 1:
        return
    deadline = time.monotonic() + timeout
    logger.info("waiting for %s, at most %g s", ", ".join(gang.peers), timeout)
    if gang.is_chief:
        _gather(gang, token, deadline)
    else:
        _report(gang, token, deadline)


def _gather(gang: Gang, token: str, deadline: float) -> None:
    came: dict[int, socket.socket] = {}
    with _listen(gang.addresses[0], deadline) as server, ExitStack() as stack:
        while len(came) < gang.workers - 1:
            try:
                server.settimeout(_left(deadline))
                connection = stack.enter_context(server.accept()[0])
            except TimeoutError:
                missing = [address for index, address in enumerate(gang.addresses) if index not in {0, *came}]
                raise PeersMissingError(f"gave up waiting: no word from {', '.join(missing)}") from None
            index = _hear(connection, token, gang)
            if index is not None:
                came[index] = connection
        for connection in came.values():
            connection.sendall(_GO)


def _listen(address: str, deadline: float) -> socket.socket:
    both = socket.has_dualstack_ipv6()  # a cluster's pods may have IPv6 alone
    family = socket.AF_INET6 if both else socket.AF_INET
    while True:
        try:
            return socket.create_server(("", _host_and_port(address)[1]), family=family, dualstack_ipv6=both)
        except OSError as error:  # perhaps a worker of the last try, on its way out
            if time.monotonic() > deadline:
                raise PeersMissingError(
                    f"gave up: cannot listen at {address} ({error.strerror}): end what uses the port, or take another"
                ) from None
            time.sleep(RETRY_SECONDS)


def _hear(connection: socket.socket, token: str, gang: Gang) -> int | None:
    """The number of the worker that reports, or None for something that is no worker, such as a probe."""
    connection.settimeout(HELLO_SECONDS)
    try:
        theirs, index = connection.recv(_MESSAGE_BYTES).decode().split()
        number = int(index)
    except (OSError, ValueError):
        return None
    if theirs != token:
        raise InvalidInputError(
            f"worker {number} at {gang.addresses[number]} came for run {theirs}, this is run {token}: give all workers "
            "the same dataset and configuration"
        )
    return number


def _report(gang: Gang, token: str, deadline: float) -> None:
    chief = gang.addresses[0]
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(_host_and_port(chief), timeout=_left(deadline)) as connection:
                connection.sendall(f"{token} {gang.index}".encode())
                if connection.recv(_MESSAGE_BYTES) == _GO:
                    return
        except OSError:  # the chief is not there yet, or its name is not known yet
            pass
        time.sleep(RETRY_SECONDS)
    raise PeersMissingError(f"gave up waiting: no word from the chief at {chief}")


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def exit_on_sigterm() -> None:
    """End the process with exit code 143 as soon as SIGTERM arrives, even while TensorFlow blocks the main thread.

    Call it again after the strategy is made, which takes the signal over. Only the main thread may call it.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)  # the wake-up below does the work
    if not _Wakeup.is_running:
        _Wakeup.is_running = True
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        threading.Thread(target=_await_sigterm, args=(read_end,), daemon=True).start()


class _Wakeup:
    is_running = False


def _await_sigterm(read_end: int) -> None:
    while os.read(read_end, 1) != bytes([signal.SIGTERM]):
        pass
    logger.warning("got SIGTERM: ending; the last checkpoint stays for the next try")
    _exit_now(SIGTERM_EXIT_CODE)


def _exit_now(code: int) -> None:
    logging.shutdown()
    os._exit(code)
