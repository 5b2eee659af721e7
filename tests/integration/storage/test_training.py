"""Training and evaluation on a store that is not of this machine: as locally, to the byte where that is promised."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

import evaluate
from support import evaluation_data
from support.gangs import finish, gang
from support.servers.s3_server import BUCKET, S3Server
from toposieve.io import store as stores
from toposieve.io.manifests import read_manifest
from toposieve.io.store import Key, root_key

# Keras 3.15 and TensorFlow 2.21 under numpy 2, when a model is saved or loaded.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

CONFIG = {"epochs": 2, "batch_size": 8, "checkpoint_steps": 3}


@pytest.fixture
def s3_base(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Key]:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    yield root_key("--base", f"s3://{BUCKET}/training")
    stores._opened.cache_clear()


def train(base: Key) -> list[str]:
    config = json.dumps({**CONFIG, "model": "hlf"})
    with gang(["--base", str(base), "--dataset", "demo", "--config", config], workers=2) as workers:
        results = [finish(worker) for worker in workers]
    for code, output in results:
        assert code == 0, output
    return [output for _, output in results]


def report(base: Key) -> None:
    [run] = {name.split("/")[0] for name in (base / "models" / "hlf").list()}
    options = ["--dataset", "demo", "--report", "demo", "--labels", f"hlf=models/hlf/{run}"]
    evaluate.main(evaluate.arg_parser().parse_args(["--base", str(base), *options, "--set", "bootstrap_samples=10"]))


def test_a_gang_on_s3_gives_the_results_of_one_on_a_disk(
    s3_base: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, local = tmp_path / "scratch", root_key("--base", str(tmp_path / "base"))
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    dataset = evaluation_data.write_dataset(Path(str(local)))
    for path in (path for path in dataset.rglob("*") if path.is_file()):
        (s3_base / path.relative_to(str(local)).as_posix()).write_bytes(path.read_bytes())
    outputs = {str(base): train(base) for base in (local, s3_base)}
    for base in (local, s3_base):
        report(base)

    assert f"results in {s3_base}/models/hlf/" in outputs[str(s3_base)][0]
    assert read_manifest(s3_base / "reports" / "demo").units == read_manifest(local / "reports" / "demo").units
    names = local.list()
    for name in ("reports/demo/metrics.json", "reports/demo/report.html", "reports/demo/manifest-000001.json"):
        assert name in names
        assert (s3_base / name).stat() is not None
    (metrics,) = (name for name in local.list("models/") if name.count("/") == 3 and name.endswith("/metrics.json"))
    assert (s3_base / metrics).read_bytes() == (local / metrics).read_bytes()
    run = s3_base / metrics.rpartition("/")[0]
    assert len(run.list("checkpoints/")) == 2
    assert any(stat.size > 100 for stat in run.list("tensorboard/events.out.tfevents.").values())
    assert not list(scratch.glob("toposieve-*"))
    report(s3_base)  # nothing to do
