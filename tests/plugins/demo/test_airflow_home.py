import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from toposieve_airflow.profile import PROFILE_VARIABLE, Profile, load_profile
from toposieve_demo import airflow_home, demo, server
from toposieve_demo.airflow_home import AirflowHome, LocalAirflow, LocalAirflowError, check_port, local_airflow


@pytest.fixture
def home(tmp_path: Path) -> AirflowHome:
    return AirflowHome(tmp_path / "home", 18080)


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    profile = load_profile(CONFIG_FOLDER)
    return profile.model_copy(update={"spark": profile.spark.model_copy(update={"java_home": tmp_path})})


@pytest.fixture
def busy_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_everything_is_inside_the_home_and_on_this_machine_only(home: AirflowHome, profile: Profile) -> None:
    environment = home.environment(profile)
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environment["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert "PYTHONPATH" not in environment
    folders = ("AIRFLOW_HOME", "TMPDIR", "SPARK_LOCAL_DIRS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    for name in (*folders, "KERAS_HOME"):
        assert Path(environment[name]).is_relative_to(home.folder)
    assert f'-Djava.io.tmpdir="{environment["TMPDIR"]}"' in environment["SPARK_SUBMIT_OPTS"]


@pytest.mark.parametrize("taken", ["home", "home/logs", "home/logs/setup.log"])
def test_a_home_that_cannot_be_written_to_is_named(taken: str, tmp_path: Path) -> None:
    (tmp_path / taken).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / taken).symlink_to("/proc/nonexistent/none")
    message = f"^{tmp_path / taken}: .*: Airflow needs a home to write to: work in a clone of your own$"
    with (
        pytest.raises(LocalAirflowError, match=message),
        local_airflow(AirflowHome(tmp_path / "home", 18080)),
    ):
        pass


def test_a_user_without_a_name_gets_one(home: AirflowHome, profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(_uid: int) -> None:
        raise KeyError

    assert "SPARK_USER" not in home.environment(profile)
    monkeypatch.setattr(pwd, "getpwuid", no_name)
    environment = home.environment(profile)
    assert environment["USER"] == environment["SPARK_USER"] == f"user{os.geteuid()}"
    assert f'-Duser.home="{environment["XDG_CACHE_HOME"]}"' in environment["SPARK_SUBMIT_OPTS"]


def test_airflow_and_its_jobs_speak_utf8(home: AirflowHome, profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    environment = home.environment(profile)
    assert (environment["PYTHONUTF8"], environment["LC_ALL"]) == ("1", "C.UTF-8")


def test_settings_of_another_airflow_are_not_inherited(
    home: AirflowHome, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = "postgresql://production/airflow"
    for name in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW_CONN_SPARK_LOCAL", "_AIRFLOW_PATCH", "AIRFLOW_CONFIG"):
        monkeypatch.setenv(name, foreign)
    monkeypatch.setenv("TOPOSIEVE_PROFILE", "mine")
    environment = home.environment(profile)
    assert foreign not in environment.values()
    assert environment["TOPOSIEVE_PROFILE"] == "mine"


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_a_proxy_is_not_asked_for_this_machine(
    home: AirflowHome, profile: Profile, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "example.org")
    environment = home.environment(profile)
    assert environment["no_proxy"] == environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"


def test_spark_connection_is_json(home: AirflowHome, profile: Profile) -> None:
    connection = json.loads(home.environment(profile)["AIRFLOW_CONN_SPARK_LOCAL"])
    assert connection == {"conn_type": "spark", "host": profile.spark.master}


def test_java_of_the_jobs_is_found(home: AirflowHome) -> None:
    java_home = home.environment(load_profile(CONFIG_FOLDER))["JAVA_HOME"]
    assert (Path(java_home) / "bin" / "java").exists()


def test_java_that_spark_cannot_use_is_refused(home: AirflowHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(LocalAirflowError, match="JAVA_HOME"):
        home.environment(load_profile(CONFIG_FOLDER))


def test_a_java_home_in_any_letters_is_read_in_any_locale(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho /opt/größer\n", encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    code = f"""if True:
        from types import SimpleNamespace as Profile
        from toposieve_demo.airflow_home import _java_environment
        profile = Profile(spark=Profile(java_home=None), python={str(tmp_path / "python")!r}, jobs="jobs")
        print(ascii(_java_environment(profile)["JAVA_HOME"]))"""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, **ascii_only, "PYTHONPATH": str(REPOSITORY / "plugins")}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment) == b"'/opt/gr\\xf6\\xdfer'\n"


def test_password_is_made_once_and_is_private(home: AirflowHome) -> None:
    password = home.password
    assert len(password) >= 12
    assert home.password == password
    assert stat.S_IMODE((home.folder / "passwords.json").stat().st_mode) == 0o600


def test_busy_port_is_refused_with_the_remedy(busy_port: int) -> None:
    with pytest.raises(LocalAirflowError, match=f"port {busy_port} .* PORT={busy_port + 1} make demo"):
        check_port(busy_port)


@pytest.mark.parametrize("program", [demo, server])
def test_busy_port_stops_everything_before_it_begins(
    program, busy_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = program.arg_parser().parse_args(["--home", str(tmp_path / "home"), "--port", str(busy_port)])
    assert program.main(args) == 1
    assert f"error: port {busy_port}" in capsys.readouterr().err
    assert not list((tmp_path / "home").iterdir())


def test_an_environment_that_cannot_be_finished_ends_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "make").write_text("#!/bin/sh\nexit 2\n", encoding="utf-8")
    (tmp_path / "make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(demo, "local_airflow", nullcontext)
    args = demo.arg_parser().parse_args(["--home", str(tmp_path / "home")])
    assert demo.main(args, pytest.fail) == 1
    assert "error: the jobs' environment is not ready" in capsys.readouterr().err


def test_port_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8123")
    args = demo.arg_parser().parse_args([])
    assert airflow_home.home_of(args) == AirflowHome(REPOSITORY / ".airflow", 8123)


def test_one_airflow_per_home(home: AirflowHome) -> None:
    home.folder.mkdir()
    with (
        airflow_home._only_one(home),
        pytest.raises(LocalAirflowError, match="already runs"),
        airflow_home._only_one(home),
    ):
        pass


def test_only_a_lock_that_is_taken_means_that_another_airflow_runs(home: AirflowHome) -> None:
    with pytest.raises(BlockingIOError), airflow_home._only_one(home):
        raise BlockingIOError


@pytest.mark.parametrize(("profile", "has_triggerer"), [("local", False), ("kubernetes", True)])
def test_a_triggerer_runs_where_gangs_are_pods(
    monkeypatch: pytest.MonkeyPatch, profile: str, has_triggerer: bool
) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, profile)
    assert ("triggerer" in airflow_home.components_for(load_profile(CONFIG_FOLDER))) is has_triggerer


def test_home_stays_locked_while_a_component_lives(
    home: AirflowHome, make_script, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.folder / "logs").mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", make_script("import signal; signal.pause()", "python"))
    commands = {"scheduler": []}
    with airflow_home._only_one(home) as lock, airflow_home._components(home, commands, {}, lock) as components:
        with open(
            os.devnull, encoding="utf-8"
        ) as nothing:  # what a kill of this process would do to its own copy of the lock
            os.dup2(nothing.fileno(), lock)
        with pytest.raises(LocalAirflowError, match="already runs"), airflow_home._only_one(home):
            pass
        assert components["scheduler"].poll() is None


def test_components_end_with_this_process(home: AirflowHome, make_script, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.folder / "logs").mkdir(parents=True)
    get_signal = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"
    monkeypatch.setattr(sys, "executable", make_script(get_signal, "python"))
    commands = {"scheduler": []}
    with airflow_home._only_one(home) as lock, airflow_home._components(home, commands, {}, lock) as components:
        assert components["scheduler"].wait(20) == 0
    assert int(home.log_file("scheduler").read_text()) == signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_request_to_end_is_an_interrupt(number: signal.Signals) -> None:
    with handler(number, signal.SIG_DFL):
        with pytest.raises(KeyboardInterrupt), airflow_home._on_request_to_end(signal.default_int_handler):
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_DFL


def test_nohup_is_respected() -> None:
    with handler(signal.SIGHUP, signal.SIG_IGN), airflow_home._on_request_to_end(signal.default_int_handler):
        signal.raise_signal(signal.SIGHUP)


@contextmanager
def handler(number: signal.Signals, value: signal.Handlers) -> Iterator[None]:
    """Handle a signal so meanwhile, whatever whoever started the tests makes of it."""
    before = signal.signal(number, value)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_server_ends_with_a_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def airflow_without_scheduler(home: AirflowHome):
        with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
            process.wait()
            yield LocalAirflow(home, home.api(), {"scheduler": process}, datetime.now(UTC))

    monkeypatch.setattr(server, "local_airflow", airflow_without_scheduler)
    assert server.main(server.arg_parser().parse_args(["--home", str(tmp_path)])) == 1
    assert "Airflow's scheduler ended with exit code 3" in capsys.readouterr().err


def test_task_logs_are_found(home: AirflowHome) -> None:
    path = home.task_log("d", "r", "train", 2, 1)
    assert path == home.folder / "logs/dag_id=d/run_id=r/task_id=train/map_index=2/attempt=1.log"
    assert home.task_log("d", "r", "plan", -1, 3).parent.name == "task_id=plan"
