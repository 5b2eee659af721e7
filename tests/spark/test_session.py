import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyspark

from toposieve.spark.environment import JOBS_FOLDER

SCRIPT = """
from toposieve.spark.session import spark_session
with spark_session("test") as spark:
    conf = spark.sparkContext.getConf()
    print("GIVEN", spark.sparkContext.master, conf.get("spark.ui.showConsoleProgress"))
    print("DEFAULT", spark.conf.get("spark.sql.session.timeZone"))
"""


def test_options_of_spark_submit_win_over_our_defaults_and_its_event_log_has_a_folder(tmp_path: Path) -> None:
    logs = tmp_path / "logs" / "events"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
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


HOSTILE = {
    "SPARK_HOME": "/opt/none",
    "SPARK_CONF_DIR": "/opt/none/conf",
    "SPARK_LOCAL_IP": "203.0.113.1",
    "PYSPARK_PYTHON": "/opt/none/bin/python",
    "PYSPARK_DRIVER_PYTHON": "/opt/none/bin/python",
    "JAVA_TOOL_OPTIONS": "-javaagent:/opt/none.jar",
    "LC_ALL": "C",
}
HOSTILE_SCRIPT = """
import logging, sys
from toposieve.spark.session import spark_session
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
with spark_session("test", "local[1]") as spark:
    print("SUM", spark.sparkContext.parallelize(range(3), 1).map(lambda n: n + 1).sum())
"""


def test_a_job_started_by_hand_runs_on_a_host_without_a_known_name_in_a_shell_of_another_spark() -> None:
    environment = {**os.environ, **HOSTILE, "PYTHONPATH": str(JOBS_FOLDER)}
    command = [sys.executable, "-c", HOSTILE_SCRIPT]
    if os.geteuid() == 0 and shutil.which("unshare"):
        command = ["unshare", "--uts", "sh", "-c", 'hostname nowhere.invalid && exec "$0" "$@"', *command]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "SUM 6" in result.stdout
    said = [line for line in result.stdout.splitlines() if "not taken from the shell" in line]
    assert len(said) == 1
    for name in HOSTILE.keys() - {"LC_ALL", "SPARK_LOCAL_IP"}:
        assert name in said[0]
