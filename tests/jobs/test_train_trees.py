"""Tree models, and a search, on one session of Spark."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

import export_model
import train_trees
import tune
from support.evaluation_data import make_scaling, write_dataset
from support.published_models import evaluate_and_publish
from toposieve import schema
from toposieve.config import TrainingConfig, TreeConfig, load_config
from toposieve.errors import InvalidInputError
from toposieve.io.event_tables import features_of
from toposieve.io.scores import read_permuted_scores, read_scores, scores_folder
from toposieve.io.store import root_key
from toposieve.latency import read_latency
from toposieve.registry import registry_folder
from toposieve.serving.exports import read_export
from toposieve.serving.scorer import Scorer
from toposieve.training.runs import best_of_study
from toposieve.tuning.forest import arrays_of, probabilities, trees_of
from toposieve.tuning.tree_models import MODELS, TreeData, frame_of
from toposieve.tuning.tree_runs import TreeRun

SIZES = dict.fromkeys(schema.SAMPLES, 120)
SMALL = {"random_forest_trees": 5, "random_forest_depth": 4, "xgboost_rounds": 5, "lightgbm_rounds": 5}
NO_PARTICLES = np.empty((0, 0), np.float32), np.zeros(1, np.int64)
SET = [argument for key, value in SMALL.items() for argument in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("base")
    write_dataset(base, sizes=SIZES)
    run_trees(base)
    return base


def run_trees(base: Path) -> None:
    train_trees.main(train_trees.arg_parser().parse_args(["--base", str(base), "--dataset", "demo", *SET]))


def runs(base: Path) -> dict[str, TreeRun]:
    key = root_key("--base", str(base))
    data = TreeData(key / "datasets" / "demo")
    return {model: TreeRun(key, data, model, TreeConfig(**SMALL)) for model in MODELS}


def files(base: Path, *folders: str) -> dict[str, bytes]:
    found = [path for folder in folders for path in (base / folder).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(base)): path.read_bytes()
        for path in found
        if path.name not in ("timing.json", "latency.json")
    }


@pytest.mark.parametrize("model", MODELS)
def test_a_tree_model_tells_the_classes_apart(base: Path, model: str) -> None:
    run = runs(base)[model]
    scores = read_scores(scores_folder(run.base, "demo", run.folder), "test")
    assert np.exp(scores.logits).sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (scores.logits.argmax(axis=1) == scores.labels).mean() > 0.8
    permuted = read_permuted_scores(scores_folder(run.base, "demo", run.folder))
    assert tuple(permuted.logits) == schema.HIGH_LEVEL_FEATURES
    hits = {name: (each.argmax(axis=1) == scores.labels).mean() for name, each in permuted.logits.items()}
    assert hits["HT"] < 0.8 < hits["LepCharge"]  # the first three features tell the classes apart
    measured = read_latency(scores_folder(run.base, "demo", run.folder))
    assert [each["batch"] for each in measured] == [1, 1024]
    [file] = (base / run.folder.relative_to(run.base)).glob("*/metrics.json")
    metrics = json.loads(file.read_text())
    assert 0 < metrics["validation_loss"] < np.log(3)
    found = read_scores(scores_folder(run.base, "demo", run.folder), "validation")
    weights = np.abs(run.data.table("validation")["weight"].to_numpy().astype(np.float64))
    for label, name in enumerate(schema.SAMPLES):
        is_it, scores_of_it = found.labels == label, found.logits[:, label]
        pairs = np.sign(scores_of_it[is_it, np.newaxis] - scores_of_it[~is_it])  # (positives, others)
        area = (np.average(pairs, weights=np.outer(weights[is_it], weights[~is_it])) + 1) / 2
        assert metrics[f"validation_auc_{name}"] == pytest.approx(area, abs=1e-6)


def test_exported_trees_give_an_event_the_scores_of_the_evaluation_whatever_comes_with_it(
    base: Path, tmp_path: Path
) -> None:
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    trained = runs(tmp_path)
    evaluate_and_publish(trained["xgboost"].base, "demo", {model: run.folder for model, run in trained.items()})
    for model, run in trained.items():
        export_model.main(export_model.arg_parser().parse_args(["--base", str(tmp_path), "--name", model]))
        folder = registry_folder(run.base, model)
        assert read_export(folder, 1).difference <= 1e-6
        scores = read_scores(scores_folder(run.base, "demo", run.folder), "test")
        scorer, features = Scorer.load(folder, 1), features_of(run.data.table("test"))
        physical = make_scaling().physical_high_level(features)
        found = scorer.logits(physical, *NO_PARTICLES)
        np.testing.assert_allclose(found, scores.logits, rtol=0, atol=1e-5)
        for count in (1, 2, 3, 7, 49, len(physical) - 1):
            assert scorer.logits(physical[:count], *NO_PARTICLES).tobytes() == found[:count].tobytes()


def test_the_forest_without_spark_says_what_it_says_on_spark(base: Path, spark: SparkSession) -> None:
    from pyspark.ml.classification import RandomForestClassifier
    from pyspark.ml.feature import VectorAssembler

    data = runs(base)["xgboost"].data
    frame = VectorAssembler(inputCols=list(schema.HIGH_LEVEL_FEATURES), outputCol="features").transform(
        frame_of(spark, data)
    )
    model = RandomForestClassifier(numTrees=3, maxDepth=3, seed=2, weightCol="weight").fit(frame)
    expected = [row["probability"].toArray() for row in model.transform(frame).select("probability").collect()]
    found = probabilities([arrays_of(tree) for tree in trees_of(model)], features_of(data.table("train")))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("partitions", [1, 7])
def test_tasks_read_their_own_events_in_order(base: Path, spark: SparkSession, partitions: int) -> None:
    data = runs(base)["xgboost"].data
    frame = frame_of(spark, data, partitions)
    assert frame.rdd.getNumPartitions() == partitions
    expected, found = data.table("train"), frame.toPandas()
    assert found["label"].tolist() == expected["label"].to_pylist()
    assert (found[list(schema.HIGH_LEVEL_FEATURES)].to_numpy() == features_of(expected)).all()


def test_what_was_killed_goes_on_with_the_next_model_and_gives_the_same_bytes(
    base: Path, tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(base, "models", "scores")
    write_dataset(tmp_path, sizes=SIZES)
    runs(tmp_path)["random_forest"].train(lambda: spark)  # and then it was killed
    run_trees(tmp_path)
    assert files(tmp_path, "models", "scores") == before
    for model, kind in list(MODELS.items()):
        monkeypatch.setitem(MODELS, model, replace(kind, fit=None))  # what is complete is not trained again
    run_trees(base)
    assert files(base, "models", "scores") == before


@pytest.mark.parametrize("model", MODELS)
def test_a_search_for_trees_is_trained_and_says_the_same_of_the_best(
    base: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaces = {
        "random_forest": {"random_forest_depth": [1, 3], "random_forest_trees": [3]},
        "xgboost": {"xgboost_rate": (0.02, 0.3), "xgboost_rounds": [2, 4]},
        "lightgbm": {"lightgbm_rate": (0.02, 0.3), "lightgbm_rounds": [2, 4]},
    }
    monkeypatch.setattr("toposieve.tuning.spaces._TREE_AXES", spaces)
    study = ["--base", str(base), "--dataset", "demo", "--study", f"of_{model}"]
    search = [*study, "--set", f"model={model}", "--set", "trials=3", "--set", "batch_trials=2"]
    tune.main(tune.arg_parser().parse_args(search))
    folder = base / "studies" / f"of_{model}"
    trials = [json.loads(path.read_text()) for path in sorted((folder / "trials").iterdir())]
    assert len(trials) == (2 if model == "random_forest" else 3)  # of the forest all there are
    losses = [trial["histories"][0][0]["validation_loss"] for trial in trials]
    assert len({*losses}) == len(losses)
    best = json.loads((folder / "best.json").read_text())
    assert best.items() >= trials[int(np.argmin(losses))]["values"].items()

    (folder / "trials" / "00001-0001.json").unlink()  # as if it had been killed
    tune.main(tune.arg_parser().parse_args(search))
    assert [json.loads(path.read_text()) for path in sorted((folder / "trials").iterdir())] == trials

    before = {*(base / "models" / model).iterdir()}
    train_trees.main(train_trees.arg_parser().parse_args(study))
    [run] = {*(base / "models" / model).iterdir()} - before  # and no other model
    [metrics] = run.glob("*/metrics.json")
    assert json.loads(metrics.read_text())["validation_loss"] == min(losses)
    with pytest.raises(InvalidInputError, match=f"is of {model}: leave out models, or --study"):
        train_trees.main(train_trees.arg_parser().parse_args([*study, "--set", 'models=["xgboost", "lightgbm"]']))
    with pytest.raises(InvalidInputError, match=f"is a search for {model}: use train_trees.py"):
        best_of_study(root_key("", str(base)), f"of_{model}", "train.py", "")


def test_another_models_keys_do_not_concern_a_run() -> None:
    expected = {"xgboost_rounds": 100, "xgboost_rate": 0.3, "xgboost_depth": 6, "seed": 1}
    assert TreeConfig(models=("xgboost",)).of("xgboost") == expected
    assert TreeConfig(lightgbm_leaves=7).of("xgboost") == TreeConfig().of("xgboost")


def test_a_search_on_spark_writes_a_configuration_that_training_takes(base: Path) -> None:
    arguments = ["--base", str(base), "--dataset", "demo", "--study", "first", "--set", "trials=2"]
    tune.main(tune.arg_parser().parse_args([*arguments, "--set", "epochs=[1]"]))
    best = base / "studies" / "first" / "best.json"
    values = best_of_study(root_key("", str(base)), "first", "train.py", "")
    config = load_config(TrainingConfig, '{"checkpoint_steps": 7}', defaults=values)
    with pytest.raises(InvalidInputError, match=r"first is a search for hlf: use train\.py"):
        train_trees.main(train_trees.arg_parser().parse_args(arguments))
    trials = [json.loads(path.read_text()) for path in sorted((best.parent / "trials").iterdir())]
    losses = [trial["histories"][0][0]["validation_loss"] for trial in trials]
    assert config.learning_rate == trials[int(np.argmin(losses))]["values"]["learning_rate"]
    assert (config.model, config.epochs, config.checkpoint_steps) == ("hlf", 1, 7)
