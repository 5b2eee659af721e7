"""Firmware of a small network, from a run to what is published, with the packages of ``.venv-firmware``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import make_firmware
from support.evaluation_data import HIGH, write_dataset, write_run
from toposieve import schema
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.firmware import making
from toposieve.firmware.acceptance import areas
from toposieve.firmware.student import use_one_thread
from toposieve.io.event_tables import features_of, read_tables
from toposieve.io.manifests import read_manifest
from toposieve.io.store import root_key

UNITS = 3
SIZES = dict.fromkeys(schema.SAMPLES, 100)
FEW_EPOCHS = ("--set", "epochs=3", "--set", "batch_size=32", "--set", "auc_tolerance=0.01")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and the run of a network that looks at the features that tell the classes apart."""
    use_one_thread()  # the job does so too, but here TensorFlow is at work before it
    base = tmp_path_factory.mktemp("base")
    weights = [np.eye(HIGH, UNITS), np.zeros(UNITS), 4 * np.eye(UNITS), np.zeros(UNITS)]
    dataset = write_dataset(base, sizes=SIZES)
    write_run(base, dataset, TrainingConfig(model="hlf", hlf_units=(UNITS,)), bias=[0.0] * UNITS, weights=weights)
    return base


def run_of(base: Path) -> str:
    [run] = (base / "models" / "hlf").iterdir()
    return run.relative_to(base).as_posix()


def make(base: Path, *arguments: str) -> Path:
    """Run the job; the folder of its output."""
    command = ["--base", str(base), "--run", run_of(base), *FEW_EPOCHS, *arguments]
    make_firmware.main(make_firmware.arg_parser().parse_args(command))
    return base / "firmware" / "demo" / run_of(base).removeprefix("models/")


@pytest.fixture(scope="module")
def folder(base: Path) -> Path:
    """Firmware of that run."""
    return make(base)


def network_areas(base: Path) -> dict[str, float]:
    """Areas of the network by its weights, which are simple."""
    dataset = root_key("--base", str(base)) / "datasets/demo"
    table = pa.concat_tables(read_tables(dataset, read_manifest(dataset), "test"))
    logits = 4 * np.maximum(features_of(table)[:, :UNITS].astype(np.float64), 0)
    return areas(table["label"].to_numpy(), table["weight"].to_numpy(), logits, schema.SAMPLES)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*/hlf.*")} | {
        path.name: path.read_bytes() for path in folder.glob("*/firmware.json")
    }


def test_firmware_is_proved_and_published(base: Path, folder: Path) -> None:
    report = json.loads((folder / "firmware.json").read_text())
    events = sum(SIZES.values())
    same = {"differing": 0, "differing_from_hls4ml": 0}
    assert report["logits"]["test"] == {"compared": events * len(SIZES), **same}
    assert report["logits"]["random"] == {"compared": 15_000 * len(SIZES), **same}
    assert report["flipped_adder"]["differing_logits"] > events / 2  # the last adder is seen in whatever comes
    network = network_areas(base)
    for name, auc in report["auc"].items():
        assert auc["network"] == pytest.approx(network[name], abs=1e-6)
        assert auc["firmware"] == pytest.approx(auc["network"], abs=0.01)
    assert report["agreement"] > 0.9
    for point in (point for points in report["working_points"].values() for point in points):
        kept = {name: point[name]["true_positive_rate"] for name in ("network", "firmware")}
        assert kept["firmware"] == pytest.approx(kept["network"], abs=0.05)
        assert kept["network"] == pytest.approx(point["target"], abs=0.1)
    assert "before place and route" in (folder / "firmware.html").read_text(encoding="utf-8")
    assert report["timing"]["latency_ns"] == 5.0 * report["timing"]["cycles"]
    assert all(report["size"][kind] > 0 for kind in ("lut", "ff", "carry"))
    made = files(folder)
    assert b"module hlf (" in made["hlf.v"]
    assert b"wrapper" not in made["hlf.v"]
    key = root_key("--base", str(base)) / folder.relative_to(base).as_posix()
    manifest = read_manifest(key)
    assert set(manifest.inputs) == {"datasets/demo", run_of(base)}
    assert {output.path.rpartition("/")[2] for output in manifest.outputs()} == set(made)


def test_what_is_there_is_left_as_it_is(base: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert make(base) == folder
    assert "nothing to do" in caplog.text
    assert caplog.messages[-1] == f"results in {folder}"  # as operators look for it


def test_what_is_made_again_is_the_same(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = files(folder)

    def unproved(*arguments: Any) -> dict[str, Any]:
        _, student, port, _, _, config, scratch = arguments
        firmware = making.Firmware(student, port, config.clock_period_ns, scratch / "hlf")
        (scratch / "hlf.v").write_text(firmware.verilog())
        (scratch / "hlf.xdc").write_text(firmware.constraints())
        return {key: value for key, value in json.loads(made["firmware.json"]).items() if key != "training"}

    monkeypatch.setattr(making, "_prove", unproved)
    assert files(make(base, "--recompute")) == made
    assert [path.name for path in folder.glob("manifest-*")] == ["manifest-000001.json"]


def test_what_is_not_accepted_is_not_published(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def untrained(student: Any, *_: Any) -> making.Learnt:
        return making.Learnt(1, 0.0, 0)

    class Silent(making.Firmware):
        def build(self) -> None: ...

        def simulate(self, words: np.ndarray) -> np.ndarray:
            return np.zeros((len(words), UNITS))

    monkeypatch.setattr(making, "Firmware", Silent)
    monkeypatch.setattr(making, "distil", untrained)
    before = files(folder)
    with pytest.raises(InvalidInputError, match=r"not accepted, and nothing is published: .* of test events .*the AUC"):
        make(base, "--recompute")
    assert files(folder) == before
