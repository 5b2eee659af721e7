"""Starts training processes on this machine, alone or as a gang."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

JOBS = Path(__file__).parents[2] / "jobs"
TIMEOUT_SECONDS = 240


def free_addresses(count: int) -> list[str]:
    """Addresses on this machine that nothing listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(count)]
        return [f"localhost:{each.getsockname()[1]}" for each in sockets]


def tf_config(addresses: list[str], index: int) -> str:
    """TF_CONFIG of one worker."""
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


def start_worker(
    arguments: list[str], config: str | None = None, script: Path = JOBS / "train.py"
) -> subprocess.Popen[str]:
    """Start a script, the training job; its output, errors included, is on ``stdout``."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    environment |= {"PYTHONPATH": str(JOBS), "CUDA_VISIBLE_DEVICES": "-1", "PYTHONUNBUFFERED": "1"}
    if config is not None:
        environment["TF_CONFIG"] = config
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def gang(arguments: list[str], workers: int, script: Path = JOBS / "train.py") -> Iterator[list[subprocess.Popen[str]]]:
    """A running gang; whatever still runs at the end is killed."""
    addresses = free_addresses(workers)
    processes = [start_worker(arguments, tf_config(addresses, index), script) for index in range(workers)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and output of a process that ends by itself."""
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    return process.returncode, output


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read a process's output up to the first line that contains ``text``."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    raise AssertionError(f"ended without {text!r}:\n" + "".join(lines))
