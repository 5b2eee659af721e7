"""Datasets of three and of four classes side by side: each is read as its manifest says, whatever the code's table."""

import json
import os
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

import evaluate
import import_dataset
from support.published_files import write_published
from toposieve import registry
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io.dataset_classes import classes_of
from toposieve.io.manifests import Manifest, manifest_name, read_manifest
from toposieve.io.scores import Scores, publish_scores, read_scores, scores_folder
from toposieve.io.store import root_key
from toposieve.training import loop, results
from toposieve.training.gang import Gang
from toposieve.training.loop import Task
from toposieve.training.runs import run_directory
from toposieve.training.shards import open_dataset
from toposieve.tuning import tree_models

# Keras 3.15 and TensorFlow 2.21 under numpy 2, when a model is saved or loaded.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

CLASSES = {"three": ["wjets", "qcd", "ttbar"], "four": ["zjets", "qcd", "ttbar", "wjets"]}
"""Neither in the order of the code's table, which has no zjets."""
TEST_EVENTS = 31


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Both datasets, a run on each, its scores and its report."""
    base = tmp_path_factory.mktemp("base")
    for name, classes in CLASSES.items():
        files = tmp_path_factory.mktemp(name)
        write_published(files, "parquet", train=(120,), test=TEST_EVENTS, classes=len(classes))
        folders = [f"--{split}={files / split}" for split in ("train", "test")]
        chosen = ["--set", f"classes={json.dumps(classes)}"]
        run(import_dataset, base, "--dataset", name, *folders, *chosen)
        train(base, name)
        run(evaluate, base, *evaluation_of(base, name))
    return base


def run(job, base, *options):
    job.main(job.arg_parser().parse_args(["--base", str(base), *options]))


def folder(base, *names):
    root = root_key("--base", str(base))
    return root / "/".join(names) if names else root


def task_of(base, name):
    dataset, config = open_dataset(folder(base, "datasets", name)), TrainingConfig(model="hlf", epochs=1, batch_size=16)
    return Task(config, dataset, Gang(), run_directory(folder(base), dataset.fingerprint, config))


def train(base, name):
    task = task_of(base, name)
    results.publish(task, loop.train(task, tf.distribute.get_strategy(), lambda: None))


def evaluation_of(base, name, trained_on=None, report=None):
    labels = ["--labels", f"ours=models/hlf/{task_of(base, trained_on or name).run_directory.name}"]
    return ["--dataset", name, "--report", report or name, *labels, "--set", "bootstrap_samples=2"]


def listed(base, *names):
    """Files of an output by their plain names."""
    key = folder(base, *names)
    return {file.path.rpartition("/")[2]: str(key / file.path) for file in read_manifest(key).outputs()}


@pytest.mark.parametrize(("name", "classes"), CLASSES.items())
def test_all_that_reads_a_dataset_has_its_classes(base, name, classes):
    assert read_manifest(folder(base, "datasets", name)).extra["classes"] == classes
    model = keras.models.load_model(
        listed(base, "models", "hlf", task_of(base, name).run_directory.name)["model.keras"]
    )
    assert model.output_shape == (None, len(classes))
    [(_, path), *_] = listed(base, "scores", name, "hlf", task_of(base, name).run_directory.name).items()
    assert pq.read_schema(path).names == ["event_id", "label", *(f"score_{each}" for each in classes)]
    metrics, table = metrics_of(base, name), pq.read_table(listed(base, "reports", name)["predictions.parquet"])
    assert metrics["classes"] == list(metrics["test"]) == list(metrics["hertz"]) == classes
    labels = [number % len(classes) for number in range(TEST_EVENTS)]
    assert [each["events"] for each in metrics["test"].values()] == np.bincount(labels).tolist()
    ours = metrics["models"]["ours"]
    assert np.shape(ours["confusion"]["events"]) == (len(classes), len(classes))
    for label, each in enumerate(classes):
        expected = roc_auc_score(np.equal(table["label"], label), table[f"ours_{each}"])
        assert ours["auc"][each]["value"] == pytest.approx(expected, rel=1e-6)
        for point in ours["working_points"][each]:
            assert list(point["background"]) == [other for other in classes if other != each]
        assert list(ours["stability"][each]["particles"]) == classes


def metrics_of(base, name):
    return json.loads((base / "reports" / name / "metrics.json").read_text())


def test_the_report_names_the_classes(base):
    three, four = ((base / "reports" / name / "report.html").read_text() for name in CLASSES)
    assert "into 3 classes by the process that made them: a W boson with jets (wjets), QCD multijets (qcd) and" in three
    assert "into 4 classes by the process that made them: zjets, QCD multijets (qcd), top-quark pairs" in four
    assert "zjets" not in three
    assert "Working points for zjets" in four


@pytest.mark.parametrize(("name", "classes"), CLASSES.items())
def test_a_registered_model_has_the_classes_of_its_dataset(base, tmp_path, name, classes):
    copy = root_key("--base", str(shutil.copytree(base, tmp_path / "base")))
    number = registry.register(copy, "topology", name, "ours")
    version = registry.read_version(registry.registry_folder(copy, "topology"), number)
    assert version.classes == tuple(classes)
    assert set(version.thresholds) == set(classes)


@pytest.mark.parametrize(("name", "classes"), CLASSES.items())
def test_trees_have_the_classes_of_their_dataset(base, name, classes):
    data = tree_models.TreeData(folder(base, "datasets", name))
    keys = {"rate": 0.1, "leaves": 4, "seed": 1, "rounds": 2}
    model = tree_models._fit_lightgbm(tree_models._LightGbm(data, keys, data.events)).encode()
    features = tree_models.features_of(data.table("test"))
    assert tree_models.MODELS["lightgbm"].load(model)(features).shape == (TEST_EVENTS, len(classes))


def test_a_run_on_the_other_dataset_is_refused(base):
    with pytest.raises(InvalidInputError, match=r"ours: .*trained on datasets/three, and .*/four is not that"):
        run(evaluate, base, *evaluation_of(base, "four", trained_on="three", report="mixed"))
    assert not (base / "reports" / "mixed").exists()


def test_scores_of_the_other_dataset_are_refused(base):
    own, four = task_of(base, "three").run_directory, folder(base, "datasets", "four")
    made = read_scores(scores_folder(folder(base), "three", own), "test")
    with pytest.raises(InvalidInputError, match=r"gives scores of 3 classes, but .*/four has 4 \(zjets, qcd, ttbar, "):
        publish_scores(folder(base), four, own, dict.fromkeys(("validation", "test"), made))
    narrow = Scores(made.event_ids, made.labels, made.logits[:, :2])
    with pytest.raises(InvalidInputError, match=r"gives scores of 2 classes, but .*/three has 3 \(wjets, qcd, ttbar\)"):
        publish_scores(
            folder(base), folder(base, "datasets", "three"), own, {"validation": narrow, "test": narrow}, recompute=True
        )


def test_scores_that_were_moved_to_the_other_dataset_are_refused(base, tmp_path):
    run_name = task_of(base, "three").run_directory.name
    shutil.copytree(base, tmp_path / "base")
    moved = tmp_path / "base" / "scores" / "four" / "hlf" / run_name
    shutil.copytree(base / "scores" / "three" / "hlf" / run_name, moved, dirs_exist_ok=True)
    with pytest.raises(InvalidInputError, match=r"holds scores of datasets/three, models.*, not of datasets/four"):
        read_scores(folder(tmp_path / "base", "scores", "four", "hlf", run_name), "test")


def test_cross_sections_of_no_class_are_refused(base, tmp_path):
    files = tmp_path / "files"
    write_published(files, "parquet", train=(40,), test=8, classes=2)
    folders = [f"--{split}={files / split}" for split in ("train", "test")]
    run(import_dataset, tmp_path, "--dataset", "two", *folders, "--set", 'classes=["qcd", "ttbar"]')
    with pytest.raises(InvalidInputError, match=r"cross_sections: wjets is no class of .*/two, which has qcd, ttbar"):
        run(evaluate, tmp_path, *evaluation_of(tmp_path, "two"), "--set", 'cross_sections={"wjets": 3.0}')


def test_an_older_dataset_is_of_the_published_three():
    assert classes_of(Manifest(stage="prepare", config_hash="", config={}, units=(), code_version="")) == (
        "qcd",
        "ttbar",
        "wjets",
    )


def test_a_label_beyond_the_classes_is_refused(base, tmp_path):
    shutil.copytree(base / "datasets", tmp_path / "datasets")
    four = folder(tmp_path, "datasets", "four")
    manifest = read_manifest(four)
    fewer = manifest.model_copy(update={"extra": manifest.extra | {"classes": CLASSES["three"]}})
    (tmp_path / "datasets" / "four" / manifest_name(2)).write_bytes(fewer.to_bytes())
    with pytest.raises(InvalidInputError, match=r"row \d+ holds bad values \(label out of range\)"):
        train(tmp_path, "four")
