import json
from pathlib import Path
from typing import Any

import pytest

from toposieve_airflow.outputs import OutputError, check_outputs
from toposieve_airflow.steps import Step

CONFIG = {"jet_pt_min": 30.0}


@pytest.fixture
def folder(step: Step) -> Path:
    """Output folder with a manifest that lists one file of five bytes."""
    folder = Path(step["outputs"][0])
    folder.mkdir()
    (folder / "a.parquet").write_bytes(b"12345")
    write(folder, {"config": {**CONFIG, "more": 1}, "units": [{"outputs": [{"path": "a.parquet", "bytes": 5}]}]})
    step["config"] = CONFIG
    return folder


def write(folder: Path, manifest: Any) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_good_output_passes(step: Step, folder: Path) -> None:
    check_outputs(step)


def test_missing_manifest(step: Step, folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(OutputError, match=r"manifest\.json: No such file"):
        check_outputs(step)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ("[]", "not a manifest"), ('{"units": []}', "not a manifest")]
)
def test_broken_manifest(step: Step, folder: Path, text: str, message: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(OutputError, match=message):
        check_outputs(step)


def test_manifest_of_another_configuration(step: Step, folder: Path) -> None:
    write(folder, {"config": {"jet_pt_min": 40.0}, "units": []})
    with pytest.raises(OutputError, match=r"jet_pt_min = 40\.0, but 30\.0"):
        check_outputs(step)


def test_listed_file_is_missing(step: Step, folder: Path) -> None:
    (folder / "a.parquet").unlink()
    with pytest.raises(OutputError, match=r"a\.parquet is missing"):
        check_outputs(step)


def test_listed_file_is_cut_short(step: Step, folder: Path) -> None:
    (folder / "a.parquet").write_bytes(b"123")
    with pytest.raises(OutputError, match="has 3 bytes where its manifest says 5"):
        check_outputs(step)


def test_promised_file_is_missing(step: Step) -> None:
    step["files"] = ["report.html"]
    with pytest.raises(OutputError, match=r"report\.html is missing"):
        check_outputs(step)


def test_step_without_promises_passes(step: Step) -> None:
    check_outputs(step)
