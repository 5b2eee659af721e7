import json
import subprocess
import sys

import pytest

from toposieve import check_outputs
from toposieve.check_outputs import MOST_PROBLEMS, main, problems
from toposieve.errors import UnavailableError
from toposieve.io.manifests import Manifest, OutputFile, Stub, Unit, manifest_name
from toposieve.io.store.file import FileStore

CONFIG = {"jet_pt_min": 30.0}


def publish(folder, number=1, config=None, files=("a.parquet",)):
    """A manifest that lists files of five bytes, which are there."""
    outputs = tuple(OutputFile(path=name, bytes=5, checksum="0" * 8) for name in files)
    unit = Unit(source="qcd/a.root", source_checksum="", entry_start=0, entry_stop=1, counts={}, outputs=outputs)
    manifest = Manifest(stage="select", config_hash="", config=config or CONFIG, units=(unit,), code_version="1")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"12345")
    (folder / manifest_name(number)).write_bytes(manifest.to_bytes())


@pytest.fixture
def folder(tmp_path):
    """An output folder whose newest manifest lists two files."""
    folder = tmp_path / "selected"
    publish(folder, files=("a.parquet", "1234567890ab/train/shard-00000.tfrecord"))
    return folder


def check(folder, **asked):
    return problems([str(folder)], **({"config": CONFIG} | asked))


@pytest.mark.parametrize("number", [0, 1, 12])
def test_good_output_passes_whatever_the_number_of_its_manifest(tmp_path, number):
    publish(tmp_path, number)
    assert check(tmp_path) == []


def test_the_newest_manifest_counts(folder):
    publish(folder, 2, {"jet_pt_min": 40.0})
    (problem,) = check(folder)
    assert problem.startswith(f"{folder}/manifest-000002.json was made with jet_pt_min = 40.0, but 30.0 was asked for")


@pytest.mark.parametrize("left", [None, Stub(swept="2026-01-01", was="one unit").model_dump_json()])
def test_no_manifest(folder, left):
    (folder / "manifest-000001.json").unlink()
    if left:
        (folder / "manifest-000001.json").write_text(left)
    assert check(folder) == [f"{folder} has no manifest, though the job says that it is done"]


@pytest.mark.parametrize("text", ["{", "[]", '{"units": []}'])
def test_broken_manifest(folder, text):
    (folder / "manifest-000001.json").write_text(text)
    (problem,) = check(folder)
    assert "manifest-000001.json is not a manifest" in problem


def test_a_key_that_the_manifest_lacks(folder):
    (problem,) = check(folder, config={"jet_eta_max": 2.6})
    assert "jet_eta_max = None, but 2.6" in problem


def test_every_problem_is_said(folder):
    (folder / "a.parquet").write_bytes(b"123")
    (folder / "1234567890ab/train/shard-00000.tfrecord").unlink()
    assert check(folder, files=["a.parquet", "report.html"]) == [
        f"{folder}/a.parquet has 3 bytes where its manifest says 5",
        f"{folder}/1234567890ab/train/shard-00000.tfrecord is missing, though the job says that it is done",
        f"{folder}/report.html is missing, though the job says that it is done",
    ]


def test_many_problems_are_counted(tmp_path):
    names = [f"{number}.parquet" for number in range(MOST_PROBLEMS + 1200)]
    publish(tmp_path, files=names)
    for name in names:
        (tmp_path / name).unlink()
    found = check(tmp_path)
    assert len(found) == MOST_PROBLEMS + 1
    assert found[-1] == f"{tmp_path} has 1,200 more such problems"


def test_a_folder_is_listed_once_and_nothing_is_asked_file_by_file(folder, monkeypatch):
    asked = []
    for verb in ("list", "stat"):
        monkeypatch.setattr(FileStore, verb, _noted(getattr(FileStore, verb), asked))
    assert check(folder, files=["a.parquet"]) == []
    assert len(asked) == 2  # the listing, and whether there is a newer manifest than it shows


def _noted(verb, asked):
    def call(*arguments):
        asked.append(arguments)
        return verb(*arguments)

    return call


def test_a_listing_may_be_older_than_a_file(folder, monkeypatch):
    monkeypatch.setattr(FileStore, "list", lambda *_: iter(()))
    assert check(folder, files=["a.parquet"]) == []


def test_without_promises_nothing_is_asked_for(tmp_path):
    assert problems([str(tmp_path / "nowhere")], {}) == []


def run(folder, **asked):
    return main([json.dumps({"outputs": [str(folder)], "config": CONFIG} | asked)])


def test_good_output_prints_nothing(folder, capsys):
    assert run(folder) == 0
    assert capsys.readouterr() == ("", "")


def test_small_files_are_told_once_the_output_is_good(folder, capsys):
    (folder / "cutflow.json").write_text('{"qcd": {"events": 5}}\n')
    assert run(folder, told=["cutflow.json"], files=["cutflow.json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"cutflow.json": {"qcd": {"events": 5}}}
    (folder / "a.parquet").unlink()
    assert run(folder, told=["cutflow.json", "metrics.json"], files=["metrics.json"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("metrics.json is missing") == 1


def test_bad_output_is_said_line_by_line(folder, capsys):
    assert run(folder, files=["x", "y"]) == 2
    assert [line[:7] for line in capsys.readouterr().err.splitlines()] == ["error: ", "error: "]


def test_an_unknown_kind_of_store_is_a_problem(capsys):
    assert run("ftp://host/data") == 2
    assert "unknown scheme ftp://" in capsys.readouterr().err


def test_a_store_that_cannot_be_reached_is_no_verdict(folder, capsys, monkeypatch):
    def fail(*_):
        raise UnavailableError("host does not answer")

    monkeypatch.setattr(check_outputs, "read_newest", fail)
    assert run(folder) == 1
    assert capsys.readouterr().err == "error: host does not answer\n"


def test_it_needs_no_more_than_the_airflow_image_has():
    """The group ``submit`` in pyproject.toml: pydantic and the stores."""
    absent = ("numpy", "pyarrow", "pandas", "awkward", "uproot", "tensorflow")
    modules = ("toposieve.check_outputs", "toposieve.check_config", "toposieve.io.store.s3", "toposieve.io.store.hdfs")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {', '.join(modules)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
