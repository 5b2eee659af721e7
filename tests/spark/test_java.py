import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from toposieve.environment import JOBS_FOLDER
from toposieve.errors import InvalidInputError
from toposieve.spark import java


def fake_java(folder: Path, version: str) -> Path:
    launcher = folder / "bin" / "java"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    launcher.chmod(0o755)
    return folder


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))


@pytest.mark.parametrize(("text", "feature"), [("1.8.0_402", 8), ("17.0.15", 17), ("21", 21), ("11.0.2", 11)])
def test_version(tmp_path, text, feature):
    assert java.java_version(fake_java(tmp_path / "jdk", text) / "bin" / "java") == feature


def test_java_home_wins(monkeypatch, tmp_path):
    home = fake_java(tmp_path / "jdk", "21.0.8")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert java.java_home() == home


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2", "25.0.1"])
def test_unsupported_java_home_is_refused(monkeypatch, tmp_path, version):
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "jdk", version)))
    with pytest.raises(InvalidInputError, match=r"is Java \d+; Spark needs 17 or 21"):
        java.java_home()


def test_java_home_without_java_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(InvalidInputError, match="does not run"):
        java.java_home()


@pytest.mark.usefixtures("no_java")
def test_java_on_path(monkeypatch, tmp_path):
    home = fake_java(tmp_path / "jdk", "17.0.15")
    monkeypatch.setenv("PATH", str(home / "bin"))
    assert java.java_home() == home


@pytest.mark.usefixtures("no_java")
def test_old_java_on_path_gives_way_to_the_bundled_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", f"{fake_java(tmp_path / 'jdk', '11.0.2')}/bin")
    assert java.java_home() == tmp_path / "environment" / "java"


def test_bundled_java_runs_with_the_module_that_it_lacks(tmp_path):
    launcher = java.bundled_java_home(tmp_path / "java") / "bin" / "java"
    assert launcher.stat().st_mode & stat.S_IXUSR
    command = [launcher, "--add-modules=jdk.incubator.vector", "-version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.defpath})
    assert 'version "21' in run.stderr


def test_bundled_java_is_made_once(tmp_path):
    launcher = java.bundled_java_home(tmp_path / "java") / "bin" / "java"
    made = launcher.stat().st_mtime_ns
    java.bundled_java_home(tmp_path / "java")
    assert launcher.stat().st_mtime_ns == made


@pytest.mark.usefixtures("no_java")
def test_an_environment_that_one_may_not_write_to_is_named(tmp_path):
    (tmp_path / "environment").symlink_to("/proc/nonexistent/none")
    with pytest.raises(InvalidInputError, match=r"environment.*: let its owner run .* or set JAVA_HOME"):
        java.java_home()


def test_the_command_line_says_in_one_sentence_what_is_wrong():
    result = subprocess.run(
        [sys.executable, "-m", "toposieve.spark.java"],
        env={**os.environ, "JAVA_HOME": "/opt/none", "PYTHONPATH": str(JOBS_FOLDER)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: JAVA_HOME: /opt/none/bin/java does not run")
    assert len(result.stderr.splitlines()) == 1


def test_a_java_that_says_more_than_ascii_is_read_in_any_locale(tmp_path):
    home = fake_java(tmp_path / "jdk", '21" "größer')
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(JOBS_FOLDER)}
    command = [sys.executable, "-m", "toposieve.spark.java"]
    subprocess.run(command, env={**os.environ, **ascii_only, "JAVA_HOME": str(home)}, check=True)
