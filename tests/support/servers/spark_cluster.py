"""A real standalone Spark cluster: a master and two workers of one core, on addresses of this machine."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path

import pyspark

from support.servers.processes import ServerProcess, answers, free_ports
from toposieve.spark.java import java_home

HOME = Path(pyspark.__file__).parent
HOSTS = ("127.0.0.1", "127.0.0.2")
"""Two: Spark never gives a second attempt at a task to the host of the first."""


class SparkCluster:
    """Started when made; :meth:`wait` returns once the workers are there.

    Args:
        folder: An empty folder.
        environment: Added to that of workers and executors.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._port, web = free_ports(2)
        self._environment = {
            **{"JAVA_HOME": str(java_home()), "SPARK_HOME": str(HOME), "SPARK_DAEMON_MEMORY": "256m"},
            **{"SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC", "SPARK_NO_DAEMONIZE": "1"},
            **environment,
        }
        options = ["--host", HOSTS[0], "--port", str(self._port), "--webui-port", str(web)]
        self._folder = folder
        self._master = self._launch("master", "master.Master", *options)
        self._workers: list[ServerProcess] = []

    @property
    def url(self) -> str:
        return f"spark://{HOSTS[0]}:{self._port}"

    def wait(self) -> SparkCluster:
        """Start the workers, and return once the master knows both."""
        self._master.wait_until(lambda: answers(self._port))
        self._workers = [self.start_worker(number) for number in range(len(HOSTS))]
        self._master.wait_until(lambda: self._registered() >= len(HOSTS))
        return self

    def start_worker(self, number: int) -> ServerProcess:
        """A worker with one core."""
        size = ["--host", HOSTS[number], "--cores", "1", "--memory", "1g", "--webui-port", "0"]
        return self._launch(
            f"worker-{number}", "worker.Worker", *size, "--work-dir", str(self._folder / "work"), self.url
        )

    def kill_worker(self, number: int) -> None:
        """Take a worker away, with its executors."""
        self._workers[number].signal(signal.SIGKILL)
        self._workers[number].stop()

    def revive_worker(self, number: int) -> None:
        """Bring it back."""
        known = self._registered()
        self._workers[number] = self.start_worker(number)
        self._master.wait_until(lambda: self._registered() > known)

    def stop(self) -> None:
        """Take all of it away."""
        for process in (*self._workers, self._master):
            process.stop()

    def _registered(self) -> int:
        return len(re.findall("Registering worker", self._master.log.read_text(errors="replace")))

    def _launch(self, name: str, role: str, *options: str) -> ServerProcess:
        command = [str(HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}", *options]
        return ServerProcess(command, self._folder / name, {**os.environ, **self._environment})
