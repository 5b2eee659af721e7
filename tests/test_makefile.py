import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile and what its first target needs."""
    folder = tmp_path / "clone"
    shutil.copytree(REPOSITORY / "requirements", folder / "requirements")
    shutil.copy(REPOSITORY / "Makefile", folder)
    return folder


def make(folder, *arguments, **environment):
    command = [shutil.which("make"), "-C", str(folder), *arguments]
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "PYTHON")}
    return subprocess.run(command, env={**outside, **environment}, capture_output=True, text=True)


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_a_python_that_cannot_be_used_is_named_with_the_remedy(clone, python):
    result = make(clone, "env", f"PYTHON={python}")
    assert result.returncode != 0
    assert f"error: {python} is missing" in result.stderr
    assert "python3-venv" in result.stderr
    assert not (clone / ".uv").exists()


def write_python(path, version, first=""):
    """A program that claims to be this Python, and ends in saying its name when it is to make an environment."""
    claim = f"import sys; sys.version_info = {version}; {first}exec(sys.argv[1])"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] || {{ echo taken: {path.name} >&2; exit 1; }}\n'
        f'exec {sys.executable} -c "{claim}" "$2"\n'
    )
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"python3": (3, 12, 3)}, "python3"),
        ({"python3": (3, 14, 0), "python3.13": (3, 13, 0)}, "python3.13"),
        ({"python3": (3, 13, 1), "python3.12": (3, 12, 1), "python3.11": (3, 11, 9)}, "python3.11"),
        ({"python3": (3, 10, 2)}, None),
        ({"python3": (3, 14, 0)}, None),
        ({}, None),
    ],
)
def test_a_python_that_is_there_is_taken(clone, tmp_path, there, taken):
    for name, version in there.items():
        write_python(tmp_path / name, version)
    result = make(clone, "env", PATH=str(tmp_path))
    assert result.returncode != 0
    expected = f"taken: {taken}" if taken else "error: python3 is missing, is none of Python 3.11 3.12 3.13"
    assert expected in result.stderr


def test_a_python_without_its_environments_is_passed_over(clone, tmp_path):
    write_python(tmp_path / "python3.11", (3, 11, 2), "sys.modules['ensurepip'] = None; ")
    write_python(tmp_path / "python3.12", (3, 12, 1))
    assert "taken: python3.12" in make(clone, "env", PATH=str(tmp_path)).stderr


def test_an_own_choice_of_python_stands(clone, tmp_path):
    for name in ("python3.11", "python3.12"):
        write_python(tmp_path / name, (3, 12, 1))
    assert "taken: python3.12" in make(clone, "env", "PYTHON=python3.12", PATH=str(tmp_path)).stderr


def test_python_reads_utf8_whatever_the_locale_is(clone):
    assert "1" in make(clone, "--eval", "show: ; @echo $$PYTHONUTF8", "show", PYTHONUTF8="0").stdout.splitlines()


@pytest.mark.parametrize("home", ["there", "nowhere"])
def test_packages_of_a_user_without_a_home_are_kept_in_the_clone(clone, monkeypatch, home):
    monkeypatch.setenv("HOME", str(clone / home))
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)
    (clone / "there").mkdir()
    said = make(clone, "--eval", "show: ; @echo cache $$UV_CACHE_DIR", "show").stdout.splitlines()
    assert (f"cache {clone}/.uv/cache" in said) == (home == "nowhere")


def test_a_user_without_a_home_reads_nothing_of_it(clone, monkeypatch):
    monkeypatch.delenv("HOME")
    said = make(clone, "--eval", "show: ; @echo cache $$UV_CACHE_DIR", "show")
    assert f"cache {clone}/.uv/cache" in said.stdout
    assert said.stderr == ""


def test_clean_removes_what_was_made_and_keeps_files_of_the_users_own(clone, tmp_path):
    raw = clone / "work" / "raw"
    made = [
        raw / "qcd/2026-01-01/manifest.json",
        raw / "_pileup/ab12/library.npz",
        clone / "work/reports/a/report.html",
    ]
    made += [raw / "qcd/2026-01-01/part.root", clone / ".airflow/airflow.db"]
    # A simulation that is complete, one that is not, and files of the user's own beside either.
    made += [raw / f"qcd/2026-03-01/{name}" for name in ("manifest-000002.json", "simulated/qcd-000000-ab.root")]
    made += [raw / f"qcd/2026-04-01/{name}" for name in ("simulated/.tmp-1.root", "_records/a.json", "_heartbeats/b")]
    made.append(raw / "_pileup/cd34/manifest-000001.json")
    for path in made:
        write(path)
    own = [write(raw / "qcd/2026-02-01/mine.root"), write(tmp_path / "elsewhere/a.root")]
    own += [write(raw / f"qcd/2026-0{month}-01/mine.root") for month in (3, 4)]
    own.append(write(raw / "qcd/2026-02-01/timing.json"))
    (raw / "ttbar").mkdir()
    (raw / "ttbar" / "2026-02-01").symlink_to(tmp_path / "elsewhere")
    result = make(clone, "clean")
    assert result.returncode == 0
    assert not any(path.exists() for path in made)
    assert all(path.exists() for path in (*own, raw / "ttbar/2026-02-01/a.root"))
    assert "work/raw/qcd/2026-02-01" in result.stdout
    assert not (raw / "_pileup").exists()


def test_clean_leaves_nothing_behind_without_own_files(clone):
    write(clone / "work/raw/qcd/2026-01-01/manifest-000001.json")
    write(clone / "work/raw/qcd/2026-01-02/simulated/qcd-000000-ab.root")
    assert make(clone, "clean").returncode == 0
    assert not (clone / "work").exists()
    assert make(clone, "clean").returncode == 0
