import os
import subprocess
import sys
from pathlib import Path

import pytest

from toposieve.environment import JOBS_FOLDER
from toposieve.spark import class_archive


@pytest.mark.parametrize(
    ("exercise", "problem"),
    [
        ("import sys; sys.exit('a trace\\nno Java')", "no Java"),
        ("import os; os._exit(3)", "exit code 3"),
        ("pass", "Java wrote none"),
        ("import os, re; open(re.search('\"(.*?)\"', os.environ['SPARK_SUBMIT_OPTS'])[1], 'w')", ""),
    ],
)
def test_what_keeps_java_from_an_archive_is_said(
    exercise: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_archive, "ARCHIVE", tmp_path / "spark.jsa")
    monkeypatch.setattr(class_archive, "_EXERCISE", exercise)
    assert class_archive.make_archive() == problem
    assert [path.name for path in tmp_path.iterdir()] == ([] if problem else ["spark.jsa"])


def test_a_broken_environment_shows_though_standard_output_does_not(tmp_path: Path) -> None:
    code = f"import runpy, sys; sys.prefix = {str(tmp_path)!r}; runpy.run_module('toposieve.spark.class_archive', "
    code += "run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(JOBS_FOLDER), "JAVA_HOME": "/opt/none"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "Spark starts without an archive of its classes" in done.stderr
    assert "JAVA_HOME: /opt/none/bin/java does not run" in done.stderr
