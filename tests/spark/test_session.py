import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from toposieve.environment import FOREIGN, JOBS_FOLDER

SUBMITTED = """
from toposieve.spark.session import spark_session
with spark_session("test") as spark:
    conf = spark.sparkContext.getConf()
    print("GIVEN", spark.sparkContext.master, conf.get("spark.ui.showConsoleProgress"))
    print("DEFAULT", spark.conf.get("spark.sql.session.timeZone"))
"""


def test_options_of_spark_submit_win_over_our_defaults_and_its_event_log_has_a_folder(tmp_path: Path) -> None:
    logs = tmp_path / "logs" / "events"
    script = tmp_path / "script.py"
    script.write_text(SUBMITTED)
    submit = Path(sys.executable).parent / "spark-submit"
    options = ["--master", "local[1]", "--conf", "spark.ui.showConsoleProgress=true", "--conf", "spark.log.level=WARN"]
    options += ["--conf", "spark.eventLog.enabled=true", "--conf", f"spark.eventLog.dir=file:{logs}"]
    environment = {
        **os.environ,
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "jobs"),
    }
    result = subprocess.run([submit, *options, script], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "GIVEN local[1] true" in result.stdout
    assert "DEFAULT UTC" in result.stdout
    assert list(logs.iterdir())


BY_HAND = """
from toposieve import cli
from toposieve.config import SelectionConfig
from toposieve.spark.session import spark_session

def main(args):
    with spark_session("test", "local[1]"):
        pass

cli.run(main, cli.job_parser("test", SelectionConfig))
"""


@pytest.mark.parametrize("hostile", [{"PYSPARK_SUBMIT_ARGS": "--name mine"}, {"SPARK_LOCAL_DIRS": "/proc/nonexistent"}])
def test_a_spark_that_does_not_start_is_an_error_with_its_remedy(hostile: dict[str, str], tmp_path: Path) -> None:
    environment = {**os.environ, **hostile, "PYTHONPATH": str(JOBS_FOLDER)}
    command = [sys.executable, "-c", BY_HAND, "--base", str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1, result.stderr  # perhaps memory was short: Airflow may try again
    assert "error: Spark does not start: mend what" in result.stderr
    assert "Traceback" not in result.stderr


HOSTILE = {
    "PATH": os.environ["PATH"],
    "HOME": "/dev/null/home",  # root, too, can make nothing there
    "SPARK_HOME": "/opt/none",
    "SPARK_CONF_DIR": "/opt/none/conf",
    "SPARK_LOCAL_IP": "203.0.113.1",
    "PYSPARK_PYTHON": "/opt/none/bin/python",
    "PYSPARK_DRIVER_PYTHON": "/opt/none/bin/python",
    "JAVA_TOOL_OPTIONS": "-javaagent:/opt/none.jar",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "http_proxy": "http://127.0.0.1:1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
HOSTILE_SCRIPT = """
from toposieve import cli
from toposieve.config import SelectionConfig

def main(args):
    import matplotlib
    from toposieve.physics.kinematics import delta_phi
    from toposieve.spark.session import spark_session

    with spark_session("test", "local[1]") as spark:
        print("SUM", spark.sparkContext.parallelize(range(3), 1).map(lambda n: delta_phi(n + 1.0, 0.0)).sum())
        print("ROWS", spark.range(3).count(), "×")

cli.run(main, cli.job_parser("test", SelectionConfig))
"""
# A host without a known name, a checkout ($0, seen as $1) that is read only, a user without a name.
HOSTILE_HOST = ["unshare", "--user", "--map-root-user", "--mount", "--uts", "sh", "-c"]
HOSTILE_HOST.append(
    'hostname nowhere.invalid && mount --bind "$0" "$1" && mount -o remount,bind,ro "$1" && shift && '
    'exec unshare --user --map-user=54321 "$@"'
)


def test_a_job_started_by_hand_runs_on_a_hostile_host_in_a_shell_of_another_spark(tmp_path: Path) -> None:
    other_spark = tmp_path / "python"
    for package in ("pyspark", "numpy"):
        (other_spark / package).mkdir(parents=True)
        (other_spark / package / "__init__.py").touch()
    repository, checkout = JOBS_FOLDER.parent, tmp_path / "chöck out"
    checkout.mkdir()
    host = [*HOSTILE_HOST, str(repository), str(checkout)]
    refused = subprocess.run([*host, "true"], capture_output=True).returncode != 0
    if refused:
        assert not os.environ.get("CI"), "this system lets nobody make a hostile host: allow unshare --user"
        host, checkout = [], repository
    environment = {**HOSTILE, "TMPDIR": str(tmp_path), "PYTHONPATH": f"{other_spark}:{checkout / 'jobs'}"}
    script = tmp_path / "job.py"
    script.write_text(HOSTILE_SCRIPT, encoding="utf-8")
    python = sys.executable.replace(str(repository), str(checkout))
    command = [*host, python, str(script), "--base", str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "SUM 6.0" in result.stdout
    assert "ROWS 3 ×" in result.stdout
    assert "\tat " not in result.stderr
    assert "matplotlib" not in result.stdout + result.stderr
    said = [line for line in result.stdout.splitlines() if "not taken from the shell" in line]
    assert len(said) == 1
    for name in (*FOREIGN, "PYTHONPATH"):
        assert (name in said[0]) == (name in environment)
    if refused:
        pytest.skip("passed, but for host name, read-only checkout and nameless user: unshare is refused here")
