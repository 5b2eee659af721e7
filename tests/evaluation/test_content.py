from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from support import evaluation_data
from toposieve import schema
from toposieve.config import EvaluationConfig, TrainingConfig
from toposieve.evaluation import content, inputs, performance, report, slices
from toposieve.evaluation.predictions import Predictions

CONFIG = EvaluationConfig(bootstrap_samples=4)


def make_predictions(models):
    labels = np.repeat(np.arange(3), 12)
    random = np.random.default_rng(2)
    weights = random.uniform(0.5, 1.5, len(labels))
    return Predictions(
        event_ids=pa.array([f"file:{number}" for number in range(len(labels))]),
        labels=labels,
        stored_weights=weights.astype(np.float32),
        weights=weights,
        features=random.uniform(0, 3, (len(labels), len(schema.HIGH_LEVEL_FEATURES))).astype(np.float32),
        particles=np.full(len(labels), 9),
        pileup=np.full(len(labels), np.nan),
        scores={model: random.dirichlet(np.ones(3), len(labels)).astype(np.float32) for model in models},
        classes=schema.SAMPLES,
    )


@pytest.fixture
def sources(tmp_path):
    """A dataset's test data and two runs on it."""
    dataset = evaluation_data.write_dataset(tmp_path)
    configs = {"hlf": TrainingConfig(model="hlf"), "inclusive": TrainingConfig(model="inclusive", seed=2)}
    names = {label: evaluation_data.write_run(tmp_path, dataset, config) for label, config in configs.items()}
    base = evaluation_data.base_key(tmp_path)
    data = inputs.open_test_data(base / "datasets" / dataset.name)
    return data, [inputs.open_run(base, data, label, f"models/{label}/{run.name}") for label, run in names.items()]


def summarise(sources):
    predicted = make_predictions(["hlf", "inclusive"])
    measured = performance.measure(
        predicted.sample, predicted.sample, CONFIG, dict.fromkeys(schema.SAMPLES, (1000.0, 50.0))
    )
    searches = {"first": evaluation_data.SEARCH}
    return content.summarise("demo", *sources, predicted, measured, CONFIG, (), {}, searches), predicted, measured


def test_cutflow_is_turned_into_steps_with_events_and_weights(sources):
    steps = summarise(sources)[0]["cutflow"]
    assert [step["name"] for step in steps] == [*schema.CUTFLOW, "balanced", *schema.SPLITS]
    assert steps[1]["events"] == dict.fromkeys(schema.SAMPLES, 100)
    assert steps[1]["weights"] == dict.fromkeys(schema.SAMPLES, 125.0)
    assert steps[1]["negative_share"] == evaluation_data.NEGATIVE_SHARES
    assert steps[1]["effective_events"] == dict.fromkeys(schema.SAMPLES, 75.0)


def test_weights_that_no_stage_recorded_are_undefined(sources):
    data, runs = sources
    recorded = {
        "weights": "weighted_cutflow",
        "negative_share": "negative_share",
        "effective_events": "effective_events",
    }
    for name in recorded.values():
        del data.manifest.extra[name]
    first = summarise((data, runs))[0]["cutflow"][0]
    assert {name: first[name] for name in recorded} == dict.fromkeys(recorded, dict.fromkeys(schema.SAMPLES))


def test_a_class_whose_weights_cancel_is_remarked_with_its_own_figures(sources, caplog):
    data, runs = sources
    data.manifest.extra["negative_share"]["ttbar"]["train"] = 0.75
    predicted = make_predictions(["hlf", "inclusive"])
    of_ttbar = predicted.labels == schema.SAMPLES.index("ttbar")
    predicted.stored_weights[of_ttbar] = [1, -1, -1, -1] * 3
    predicted.weights[of_ttbar] = 0
    measured = performance.measure(
        predicted.sample, predicted.sample, CONFIG, dict.fromkeys(schema.SAMPLES, (1000.0, 50.0))
    )
    metrics = content.summarise("demo", data, runs, predicted, measured, CONFIG)
    figures = {"events": 12, "weight": 0, "negative_share": 0.75, "effective_events": 3}
    assert metrics["test"]["ttbar"] == figures
    remark = "ttbar is left out: its weights do not add up to more than 0 in the training split"
    assert metrics["notes"] == [*data.manifest.notes, remark]
    assert remark in caplog.text


def test_conditions_are_said_as_far_as_they_are_known(sources):
    data, runs = sources
    assert summarise(sources)[0]["sample"] == {"energy": None, "pileup": None}
    data.manifest.extra["cross_sections"] = {sample: {"pb": 1.0, "error": 0.1} for sample in schema.SAMPLES}
    predicted = make_predictions(["hlf", "inclusive"])
    predicted.pileup[:] = [10, 30] * 18
    measured = performance.measure(predicted.sample, predicted.sample, CONFIG)
    metrics = content.summarise("demo", data, runs, predicted, measured, CONFIG)
    assert metrics["sample"] == {"energy": 13.0, "pileup": 20.0}


def test_runs_and_configurations_are_recorded(sources):
    metrics = summarise(sources)[0]
    assert metrics["models"]["inclusive"]["run"] == sources[1][1].directory.name
    assert metrics["models"]["hlf"]["training"] == evaluation_data.RUN_METRICS
    assert metrics["models"]["hlf"]["parameters"] == evaluation_data.RUN_METRICS["parameters"]
    assert metrics["models"]["hlf"]["bytes"] == len(b"a model")
    assert metrics["importance"] == {}
    assert "model" not in metrics["configuration"]["training"]
    assert metrics["configuration"]["training"]["batch_size"] == TrainingConfig().batch_size
    assert metrics["configuration"]["training"]["seed"] == {"hlf": 1, "inclusive": 2}
    assert metrics["configuration"]["dataset"]["partitions"] == ["day"]
    assert metrics["code_versions"]["hlf"] == "def5678"
    assert metrics["report"] == metrics["dataset"] == "demo"


def test_slices_are_cut_at_the_first_threshold_of_the_same_model_and_class(sources, monkeypatch):
    monkeypatch.setattr(slices, "FEWEST", 0.0)
    metrics, predicted, measured = summarise(sources)
    electrons = np.rint(predicted.columns["LepIsEle"]) == 1
    for place, model in enumerate(predicted.scores):
        for label, name in enumerate(schema.SAMPLES):
            passes = predicted.scores[model][:, label] >= measured.thresholds[place, label, 0]
            for process, other in enumerate(schema.SAMPLES):
                own = electrons & (predicted.labels == process)
                expected = predicted.weights[own & passes].sum() / predicted.weights[own].sum()
                found = metrics["models"][model]["stability"][name]["LepIsEle"][other]["share"][1]
                assert found == pytest.approx(expected)


def test_packages_that_are_not_installed_are_left_out(monkeypatch):
    monkeypatch.setattr(content, "PACKAGES", ("numpy", "no-such-package"))
    assert content.package_versions().keys() == {"python", "numpy"}
    assert content.package_versions()["numpy"] == np.__version__


def test_every_plot_of_the_report_is_drawn(sources, tmp_path):
    metrics, predicted, measured = summarise(sources)
    metrics |= {"importance": evaluation_data.IMPORTANCE, "systematics": {"jets-up": evaluation_data.VARIED}}
    paths = content.draw(tmp_path, metrics, predicted, measured)
    assert metrics["slices"].keys() == {"LepPt", "LepEta", "LepIsEle", "nJets", "particles"}
    assert paths.keys() == report.EXPLANATIONS.keys()
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths.values())
    assert {path.stem for path in paths.values()} == paths.keys()


def test_what_is_not_trained_in_epochs_has_no_learning_curve(sources, tmp_path):
    data, runs = sources
    metrics, predicted, measured = summarise((data, [replace(run, history={}) for run in runs]))
    assert "learning" not in content.draw(tmp_path, metrics, predicted, measured)
