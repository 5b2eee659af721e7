import os
import subprocess
import sys

from toposieve.environment import JOBS_FOLDER
from toposieve.version import code_version


def test_an_image_names_its_version(monkeypatch):
    code_version.cache_clear()
    monkeypatch.setenv("TOPOSIEVE_VERSION", "1.2.3")
    assert code_version() == "1.2.3"
    code_version.cache_clear()


def test_a_machine_without_git_is_no_error(monkeypatch):
    code_version.cache_clear()
    monkeypatch.delenv("TOPOSIEVE_VERSION", raising=False)
    monkeypatch.setenv("PATH", "")
    assert code_version() == "unknown"
    code_version.cache_clear()


def test_a_tag_in_any_letters_is_read_in_any_locale(tmp_path):
    (tmp_path / "git").write_text("#!/bin/sh\necho größer\n", encoding="utf-8")
    (tmp_path / "git").chmod(0o755)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TOPOSIEVE_VERSION": ""}
    environment = {**os.environ, **ascii_only, "PATH": str(tmp_path), "PYTHONPATH": str(JOBS_FOLDER)}
    command = [sys.executable, "-c", "from toposieve.version import code_version; print(ascii(code_version()))"]
    assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout == b"'gr\\xf6\\xdfer'\n"
