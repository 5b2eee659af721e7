import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from toposieve import environment
from toposieve.environment import FOREIGN, JOBS_FOLDER, VECTORS, ignored, job_variables, own_environment, runs_here
from toposieve.errors import InvalidInputError

SHELL = {name: "/opt/none" for name in FOREIGN}


def test_a_job_started_by_hand_has_its_own_spark_and_python_and_names_what_it_ignores() -> None:
    made = own_environment(SHELL, is_local=True)
    assert "/opt/none" not in made.values()
    assert made["PYSPARK_PYTHON"] == made["PYSPARK_DRIVER_PYTHON"] == sys.executable
    assert made["SPARK_CONF_DIR"] == f"{made['SPARK_HOME']}/conf"
    assert ignored(SHELL, made) == list(FOREIGN)


def test_nothing_is_said_of_a_clean_shell() -> None:
    assert ignored({}, own_environment({}, is_local=True)) == []


def test_under_spark_submit_the_submitters_settings_stand() -> None:
    given = {**SHELL, "PYSPARK_GATEWAY_PORT": "1", "SPARK_LOCAL_IP": "203.0.113.1"}
    made = own_environment(given, is_local=True)
    assert {name: made[name] for name in given} == given
    assert ignored(given, made) == []


@pytest.mark.parametrize("name", ["HADOOP_CONF_DIR", "SPARK_SUBMIT_OPTS", "PYSPARK_SUBMIT_ARGS", "AWS_ACCESS_KEY_ID"])
def test_settings_of_stores_and_of_the_submission_are_obeyed(name: str) -> None:
    assert own_environment({name: "given"}, is_local=True)[name] == "given"


def test_only_a_local_job_stays_on_the_loopback_address() -> None:
    given = {"SPARK_LOCAL_IP": "203.0.113.1"}
    assert own_environment(given, is_local=True)["SPARK_LOCAL_IP"] == "127.0.0.1"
    assert own_environment(given, is_local=False) == {**own_environment({}, is_local=False), **given}


def test_this_library_comes_first_in_the_path_of_python() -> None:
    made = own_environment({"PYTHONPATH": "/opt/none"}, is_local=True)
    assert made["PYTHONPATH"].split(os.pathsep) == [str(JOBS_FOLDER), "/opt/none"]


def another_spark(folder: Path) -> Path:
    (folder / "pyspark").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("end", ["", "/", "/../python"])
def test_another_spark_in_the_path_of_python_gives_way_to_our_own(tmp_path: Path, end: str) -> None:
    other = f"{another_spark(tmp_path / 'python')}"
    given = {"PYTHONPATH": f"{other}{end}:/opt/spark/python/lib/py4j-0.10.9.9-src.zip:/opt/none"}
    assert other not in environment.without_others([other], [f"{other}{end}"])
    made = own_environment(given, is_local=True)
    assert made["PYTHONPATH"].split(os.pathsep) == [str(JOBS_FOLDER), "/opt/none"]
    assert str(tmp_path) not in made["SPARK_HOME"]
    assert ignored(given, made) == ["PYTHONPATH"]
    submitted = {**given, "PYSPARK_GATEWAY_PORT": "1"}
    assert own_environment(submitted, is_local=True)["PYTHONPATH"] == f"{JOBS_FOLDER}:{given['PYTHONPATH']}"


def test_the_only_spark_there_is_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = str(another_spark(tmp_path / "python"))
    monkeypatch.setattr(environment, "OWN_PACKAGES", str(tmp_path))
    assert environment.without_others([only, "/opt/none"], [only]) == [only, "/opt/none"]


def test_packages_of_another_python_give_way_to_our_own(tmp_path: Path) -> None:
    for package in ("numpy", "pydantic"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('of another Python')", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(JOBS_FOLDER)])
    command = [sys.executable, "-c", "import toposieve.cli, numpy"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("master", "options", "is_local"),
    [
        (None, "", True),
        (None, "--master local[2] pyspark-shell", True),
        (None, "--conf a=b --master=local[*] pyspark-shell", True),
        (None, '--master "local[2]" pyspark-shell', True),
        (None, "--master yarn pyspark-shell", False),
        (None, "--conf spark.master=yarn pyspark-shell", False),
        ("local[1]", "--master yarn pyspark-shell", True),
        ("yarn", "", False),
    ],
)
def test_the_master_says_where_a_job_runs(master: str | None, options: str, is_local: bool) -> None:
    assert runs_here(master, {"PYSPARK_SUBMIT_ARGS": options}) == is_local


@pytest.mark.parametrize(
    ("locale", "made"),
    [
        ({}, "C.UTF-8"),
        ({"LANG": "de_DE.ISO8859-1"}, "C.UTF-8"),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, "C.UTF-8"),
        ({"LANG": "en_US.utf8"}, None),
        ({"LC_CTYPE": "en_US.UTF-8", "LANG": "C"}, None),
    ],
)
def test_programs_that_a_job_starts_speak_utf8(locale: dict[str, str], made: str | None) -> None:
    variables = job_variables({**locale, "HOME": os.environ["HOME"]})
    assert variables.get("LC_ALL") == made
    assert variables["PYTHONUTF8"] == "1"


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A home that one may not write to; folders for temporary files are in ``tmp_path``."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(environment.os, "access", lambda path, _mode: Path(path) != home)
    monkeypatch.setattr(environment.tempfile, "tempdir", str(tmp_path))
    return str(home)


UTF8 = {"LANG": "C.UTF-8"}


def without_a_name(_uid: int) -> None:
    raise KeyError


def test_caches_go_where_one_may_write(closed: str, tmp_path: Path) -> None:
    private = str(tmp_path / f"toposieve-{os.geteuid()}")
    for given in ({"HOME": closed, **UTF8}, {"HOME": str(tmp_path), "XDG_CACHE_HOME": closed, **UTF8}):
        made = job_variables(given)
        assert made["XDG_CACHE_HOME"] == private
        assert made["MPLCONFIGDIR"] == f"{private}/matplotlib"
        assert job_variables({**given, **made}).items() <= made.items()
    assert Path(private).stat().st_mode & 0o777 == 0o700


def test_settings_of_the_users_notebooks_are_not_ours(tmp_path: Path) -> None:
    notebooks = {"KERAS_BACKEND": "torch", "KERAS_HOME": "/opt/none", "MPLBACKEND": "module://inline"}
    made = job_variables({"HOME": str(tmp_path), **notebooks})
    assert (made["KERAS_BACKEND"], made["MPLBACKEND"]) == ("tensorflow", "agg")
    assert made["KERAS_HOME"] == f"{tmp_path}/.cache/toposieve-keras"


def test_options_of_xla_that_the_user_has_chosen_stay() -> None:
    told = [job_variables({"XLA_FLAGS": flags})["XLA_FLAGS"] for flags in ("", "--a=1", f"{VECTORS}=256 --a=1")]
    assert told == [f"{VECTORS}=512", f"--a=1 {VECTORS}=512", f"{VECTORS}=256 --a=1"]


def test_caches_that_the_user_has_chosen_stay(closed: str, tmp_path: Path) -> None:
    chosen = {"XDG_CACHE_HOME": str(tmp_path / "new" / "cache"), "MPLCONFIGDIR": "/opt/none"}
    made = job_variables({"HOME": closed, **chosen})
    assert {name: made[name] for name in chosen} == chosen
    assert "XDG_CACHE_HOME" not in job_variables({"HOME": str(tmp_path)})


@pytest.mark.parametrize("make", [lambda path: path.mkdir(mode=0o777), lambda path: path.symlink_to("/"), Path.touch])
def test_a_folder_that_others_may_write_to_holds_no_caches(closed: str, tmp_path: Path, make: object) -> None:
    folder = tmp_path / f"toposieve-{os.geteuid()}"
    assert callable(make)
    make(folder)
    with pytest.raises(InvalidInputError, match=f"{folder} is not a folder of yours alone: remove it"):
        job_variables({"HOME": closed})


def test_without_any_folder_to_write_to_tmpdir_is_asked_for(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(environment.tempfile, "gettempdir", none)
    with pytest.raises(InvalidInputError, match="set TMPDIR"):
        job_variables({"HOME": closed})


def test_a_user_without_a_name_gets_one_and_java_a_home(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not {"USER", "SPARK_USER"} & job_variables({"HOME": closed}).keys()
    monkeypatch.setattr(pwd, "getpwuid", without_a_name)
    made = job_variables({"HOME": closed, "SPARK_SUBMIT_OPTS": "-Da=b", **UTF8})
    assert made["USER"] == made["SPARK_USER"] == f"user{os.geteuid()}"
    assert made["SPARK_SUBMIT_OPTS"] == f'-Duser.home="{tmp_path}/toposieve-{os.geteuid()}" -Da=b'
    assert job_variables({"HOME": closed, **UTF8, **made}) == made
    assert job_variables({"HOME": str(tmp_path), "USER": "me"})["SPARK_USER"] == "me"
    assert job_variables({"HOME": str(tmp_path)})["SPARK_SUBMIT_OPTS"] == f'-Duser.home="{tmp_path}"'
    assert (
        job_variables({"HOME": closed, "SPARK_SUBMIT_OPTS": "-Duser.home=/a"})["SPARK_SUBMIT_OPTS"] == "-Duser.home=/a"
    )


def test_a_home_that_nobody_knows_is_not_the_folder_one_is_in(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", without_a_name)
    assert "toposieve-" in job_variables({})["XDG_CACHE_HOME"]
