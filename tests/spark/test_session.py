import os
import subprocess
import sys
from pathlib import Path

import pyspark

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
