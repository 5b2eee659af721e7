"""A local Airflow: SQLite, LocalExecutor, every server on 127.0.0.1, and nothing written outside of its home."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toposieve_airflow.local.processes import end_sessions, end_with_parent
from toposieve_airflow.profile import Profile, load_profile
from toposieve_demo.api import Api

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_PORT = 8080
USER = "admin"
PARALLELISM = 4
READY_TIMEOUT_S = 180
STOP_TIMEOUT_S = 20

SERVER = "api-server"
COMPONENTS = {
    # Without --skip-serve-logs the scheduler would serve logs on every address of the machine.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    SERVER: ["api-server"],
}
TRIGGERER = {"triggerer": ["triggerer", "--skip-serve-logs"]}

LOCAL_SETTINGS = """\
# Spark's hook imports both, for .6 s: here once in a component, not in each task, which is a fork of one.
import kubernetes.client
import kubernetes_asyncio.client

__all__ = []
"""


class LocalAirflowError(Exception):
    """Airflow cannot be started here; the message says why and what to do."""


@dataclass(frozen=True)
class AirflowHome:
    """Where a local Airflow lives, and how it is reached.

    Attributes:
        folder: Database, logs, passwords, temporary files.
        port: Port of API and UI on 127.0.0.1.
    """

    folder: Path = REPOSITORY / ".airflow"
    port: int = DEFAULT_PORT

    @property
    def url(self) -> str:
        """Address of API and UI."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        """Password of the user ``admin``, made on first use; only this user can read the file."""
        path = self.folder / "passwords.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as stream:
                json.dump({USER: secrets.token_urlsafe(12)}, stream)
        return str(json.loads(path.read_text(encoding="utf-8"))[USER])

    def api(self) -> Api:
        """Client for this Airflow."""
        return Api(self.url, USER, self.password)

    def log_file(self, component: str) -> Path:
        """Log of a component, or of the set-up."""
        return self.folder / "logs" / f"{component}.log"

    def task_log(self, dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int) -> Path:
        """Log of one try of a task (JSON lines)."""
        folder = self.folder / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        if map_index >= 0:
            folder /= f"map_index={map_index}"
        return folder / f"attempt={try_number}.log"

    def environment(self, profile: Profile) -> dict[str, str]:
        """Environment of every Airflow process."""
        connection: dict[str, Any] = {"conn_type": "spark", "host": profile.spark.master}
        if profile.operators == "kubernetes":
            connection["extra"] = {"deploy-mode": "cluster"}
        return {
            **_inherited_environment(),
            **_name(),
            "PYTHONUTF8": "1",
            "LC_ALL": "C.UTF-8",
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(PARALLELISM),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.folder / "passwords.json"),
            # A file that has changed is read at once all the same; others would cost a tenth of two cores.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            f"AIRFLOW_CONN_{profile.spark.connection.upper()}": json.dumps(connection),
            **self._own_folders(_archive_options(profile)),
            **_java_environment(profile),
        }

    def _own_folders(self, archive_options: str) -> dict[str, str]:
        """Where libraries keep temporary files, caches and settings that would else go to /tmp and the user's home."""
        cache, config, temporary = self.folder / "cache", self.folder / "config", self.folder / "tmp"
        # Java writes its performance data to /tmp, whatever its temporary folder is, and knows no home without a name.
        home = f'-Duser.home="{cache}" ' if _name() else ""
        java_options = f'{home}-Djava.io.tmpdir="{temporary}" -XX:-UsePerfData'
        return {
            "TMPDIR": str(temporary),
            "SPARK_LOCAL_DIRS": str(temporary),
            "SPARK_LAUNCHER_OPTS": "-XX:-UsePerfData",
            "SPARK_SUBMIT_OPTS": " ".join(
                filter(None, [archive_options, os.environ.get("SPARK_SUBMIT_OPTS"), java_options])
            ),
            "XDG_CACHE_HOME": str(cache),
            "XDG_CONFIG_HOME": str(config),
            "MPLCONFIGDIR": str(config / "matplotlib"),
            "KERAS_HOME": str(config / "keras"),
        }


def _archive_options(profile: Profile) -> str:
    """Options with which Spark's Java starts faster, if `make env` made the archive (toposieve.spark.class_archive)."""
    archive = profile.python.parent.parent / "spark.jsa"
    return f'-XX:SharedArchiveFile="{archive}" -Xshare:auto -Xlog:disable' if archive.exists() else ""


Components = Mapping[str, subprocess.Popen[bytes]]
"""Name → process."""


@dataclass(frozen=True)
class LocalAirflow:
    """An Airflow that runs.

    Attributes:
        home: Where it lives.
        api: Client for its API.
        components: Its processes.
        started: When it was started.
    """

    home: AirflowHome
    api: Api
    components: Components
    started: datetime

    def check(self) -> None:
        """Check that all of it runs.

        Raises:
            LocalAirflowError: A component has ended.
        """
        for name, process in self.components.items():
            if process.poll() is not None:
                raise LocalAirflowError(
                    f"Airflow's {name} ended with exit code {process.returncode}: see {self.home.log_file(name)}"
                )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every command that starts a local Airflow."""
    parser.add_argument("--home", type=Path, default=AirflowHome.folder, help="where Airflow lives (%(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=int(os.environ.get("PORT") or DEFAULT_PORT),
        help="port on 127.0.0.1; default: the environment's PORT, or %(default)s",
    )


def home_of(args: argparse.Namespace) -> AirflowHome:
    """The home that the command line names."""
    return AirflowHome(args.home.resolve(), args.port)


@contextmanager
def local_airflow(home: AirflowHome) -> Iterator[LocalAirflow]:
    """Run Airflow while the block lasts.

    Args:
        home: Where it lives; set up on first use.

    Yields:
        It, once all components are healthy.

    Raises:
        LocalAirflowError: The port is in use, this home is in use or cannot be written to, or a component does not
            start.
    """
    with _only_one(home) as lock, _on_request_to_end(signal.default_int_handler):
        check_port(home.port)
        profile = load_profile(REPOSITORY / "dags" / "config")
        with _said_where():
            for name in ("logs", "tmp", "config"):
                (home.folder / name).mkdir(exist_ok=True)
            (home.folder / "config" / "airflow_local_settings.py").write_text(LOCAL_SETTINGS, encoding="utf-8")
            home.log_file("setup").touch()
        environment = home.environment(profile)
        started = datetime.now(UTC)
        _migrate(home, environment, lock)
        with _components(home, components_for(profile), environment, lock) as components:
            airflow = LocalAirflow(home, home.api(), components, started)
            _wait_until_ready(airflow)
            for pool in (profile.pools.spark, profile.pools.training):
                airflow.api.set_pool(pool.name, pool.slots)
            yield airflow


def components_for(profile: Profile) -> dict[str, list[str]]:
    """Name → arguments of Airflow's processes: a triggerer where gangs are pods, which may wait in a queue."""
    return COMPONENTS if profile.kubernetes is None else {**COMPONENTS, **TRIGGERER}


def check_port(port: int) -> None:
    """Check that nothing listens on a port of 127.0.0.1.

    Raises:
        LocalAirflowError: Something does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LocalAirflowError(
                f"port {port} on 127.0.0.1 cannot be used ({error.strerror}): "
                f"stop what listens there, or choose another port, for example PORT={port + 1} make demo"
            ) from None


@contextmanager
def _only_one(home: AirflowHome) -> Iterator[int]:
    """Lock a home; it stays locked as long as this process, or one that inherits the descriptor, keeps it open."""
    with _said_where():
        home.folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home.folder, os.O_RDONLY)
    try:
        _lock(descriptor, home)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _said_where() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalAirflowError(
            f"{error.filename}: {error.strerror}: Airflow needs a home to write to: work in a clone of your own"
        ) from None


def _lock(descriptor: int, home: AirflowHome) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LocalAirflowError(f"an Airflow already runs on {home.folder}: stop it first, or use its UI") from None


def _migrate(home: AirflowHome, environment: dict[str, str], lock: int) -> None:
    path = home.log_file("setup")
    with path.open("ab") as log:
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        if subprocess.run(command, env=environment, stdout=log, stderr=log, pass_fds=(lock,)).returncode != 0:
            raise LocalAirflowError(f"Airflow's database could not be set up: see {path}")


@contextmanager
def _components(
    home: AirflowHome, commands: Mapping[str, Sequence[str]], environment: dict[str, str], lock: int
) -> Iterator[Components]:
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, arguments in commands.items():
            with home.log_file(name).open("ab") as log:
                command = [sys.executable, "-m", "airflow", *arguments]
                # A session of its own: a Ctrl-C reaches this process alone, which then stops all in order. Should this
                # process be killed, the components end by themselves, and keep the home locked until they have.
                processes[name] = subprocess.Popen(
                    command,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(lock,),
                    preexec_fn=end_with_parent(signal.SIGTERM),
                )
        yield processes
    finally:
        # A second Ctrl-C must not leave half of the processes behind.
        with _on_request_to_end(signal.SIG_IGN):
            # The server goes last, for tasks that end now report to it.
            for part in (
                [name for name in processes if name != SERVER],
                [name for name in processes if name == SERVER],
            ):
                end_sessions([processes[name].pid for name in part], STOP_TIMEOUT_S)
            for process in processes.values():
                process.wait()


def _wait_until_ready(airflow: LocalAirflow) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _is_healthy(airflow):
        airflow.check()
        if time.monotonic() > deadline:
            logs = airflow.home.folder / "logs"
            raise LocalAirflowError(f"Airflow is not ready after {READY_TIMEOUT_S} s: see {logs}")
        time.sleep(0.5)


def _is_healthy(airflow: LocalAirflow) -> bool:
    health = airflow.api.health() or {}
    parts = ["metadatabase", "scheduler", "dag_processor", *(TRIGGERER.keys() & airflow.components.keys())]
    return all(health.get(part, {}).get("status") == "healthy" for part in parts)


@contextmanager
def _on_request_to_end(handler: Callable[..., Any] | signal.Handlers) -> Iterator[None]:
    """Handle Ctrl-C, TERM and a closed terminal alike meanwhile; what is ignored (``nohup``) stays ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def _inherited_environment() -> dict[str, str]:
    """The caller's environment, without the settings of another Airflow: its database must not be touched."""
    foreign = ("AIRFLOW_", "_AIRFLOW_", "PYTHONPATH")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    exceptions = inherited.get("no_proxy") or inherited.get("NO_PROXY")
    direct = ",".join(filter(None, [exceptions, "127.0.0.1,localhost"]))
    return {**inherited, "NO_PROXY": direct, "no_proxy": direct}


def _name() -> dict[str, str]:
    """A name for a user whom this machine knows by number only: Airflow asks for it, and Spark."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        name = f"user{os.geteuid()}"
        return {"USER": name, "SPARK_USER": name}
    return {}


def _java_environment(profile: Profile) -> dict[str, str]:
    """The Java that the jobs will use, which ``spark-submit`` needs to know before any of our code runs.

    Raises:
        LocalAirflowError: There is none that Spark can use.
    """
    if profile.spark.java_home is not None:
        return {}
    command = [str(profile.python), "-m", "toposieve.spark.java"]
    result = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(profile.jobs)}, capture_output=True, encoding="utf-8"
    )
    if result.returncode != 0:
        raise LocalAirflowError(f"no Java for Spark: {result.stderr.strip().splitlines()[-1].removeprefix('error: ')}")
    return {"JAVA_HOME": result.stdout.strip()}
