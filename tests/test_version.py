import os
import subprocess
import sys

import pytest

from toposieve.environment import JOBS_FOLDER
from toposieve.version import code_version, is_code_of


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


@pytest.mark.parametrize(
    ("version", "recorded", "same"),
    [
        ("1.2.3", "1.2.3", True),
        ("1.2.3", "1.2.4", False),
        ("1.2.3-4-gabc1234-dirty", "1.2.3-4-gabc1234-dirty", False),
        ("unknown", "unknown", False),
    ],
)
def test_a_version_that_names_no_code_is_never_the_same(monkeypatch, version, recorded, same):
    code_version.cache_clear()
    monkeypatch.setenv("TOPOSIEVE_VERSION", version)
    assert is_code_of(recorded) is same
    code_version.cache_clear()


def test_a_tag_in_any_letters_is_read_in_any_locale(tmp_path):
    (tmp_path / "git").write_text("#!/bin/sh\necho größer\n", encoding="utf-8")
    (tmp_path / "git").chmod(0o755)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TOPOSIEVE_VERSION": ""}
    environment = {**os.environ, **ascii_only, "PATH": str(tmp_path), "PYTHONPATH": str(JOBS_FOLDER)}
    command = [sys.executable, "-c", "from toposieve.version import code_version; print(ascii(code_version()))"]
    assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout == b"'gr\\xf6\\xdfer'\n"
