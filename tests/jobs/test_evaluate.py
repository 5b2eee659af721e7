import json
import os
import re
import shutil
import sys
from dataclasses import replace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

import evaluate
from support import evaluation_data
from toposieve import cli, schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.evaluation import scoring
from toposieve.evaluation.table import format_table
from toposieve.io import manifests
from toposieve.permutation import PARTICLE_GROUPS

# Keras 3.15 and TensorFlow 2.21 under numpy 2, when a model is saved or loaded.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

BAD_FILE = {"source": "qcd/day/<odd>.root", "reason": "truncated", "source_checksum": ""}


LATENCY = [{"batch": 1, "p50": 0.25, "p99": 0.5}]


@pytest.fixture(scope="module", autouse=True)
def quick_latency():
    """Compiling for each batch takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "measure_latency", lambda *_: LATENCY)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A dataset with fresh models."""
    base = tmp_path_factory.mktemp("trained")
    dataset = evaluation_data.write_dataset(base, quarantined=[BAD_FILE])
    for model in ("hlf", "inclusive"):
        evaluation_data.write_run(base, dataset, TrainingConfig(model=model, epochs=2), bias=(0.1, 0.0, -0.1))
    return base


@pytest.fixture(scope="module")
def evaluated(trained):
    """The report on them, and its folder."""
    run_job(trained)
    return trained / "reports" / "demo"


@pytest.fixture
def copy(evaluated, tmp_path):
    """A base of one's own, with the report."""
    return shutil.copytree(evaluated.parents[1], tmp_path / "base")


def runs_of(base):
    """Model → label and folder of its run, as ``--labels`` takes them."""
    return {path.parent.name: f"{path.parent.name}={path.relative_to(base)}" for path in base.glob("models/*/*")}


def arguments(base, *more):
    found = runs_of(base)
    return [
        *("--base", str(base), "--dataset", "demo", "--report", "demo", "--labels", found["inclusive"], found["hlf"]),
        *("--set", "bootstrap_samples=10", *more),
    ]


def listed(directory):
    """What the report's manifest lists, by plain names."""
    manifest = manifests.read_manifest(evaluation_data.base_key(directory))
    return {path.name: path for path in (directory / file.path for file in manifest.outputs())}


def files_of(directory):
    """Every file, relative to a folder, with its bytes."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def run_job(base, *more):
    evaluate.main(evaluate.arg_parser().parse_args(arguments(base, *more)))


class Made(Exception):
    """The job began to make a report."""


def mark_as_made(*_):
    raise Made


def test_report_is_complete(evaluated):
    names = set(listed(evaluated))
    assert {"metrics.json", "predictions.parquet", "roc.png", "scores.png", "features.png", "cutflow.png"} <= names
    assert len({path.parent for path in listed(evaluated).values()}) == 1
    plain = {path.name for path in evaluated.iterdir() if path.is_file()}
    assert plain == {"manifest-000001.json", "metrics.json", "report.html", "timing.json"}
    assert (evaluated / "metrics.json").read_bytes() == listed(evaluated)["metrics.json"].read_bytes()
    folder = evaluation_data.base_key(evaluated)
    manifest = manifests.read_manifest(folder)
    assert manifest.code == CODE_NUMBERS["evaluate"]
    for file in manifest.outputs():
        manifests.check_listed(folder, file)


def test_metrics_follow_from_the_published_predictions(evaluated):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    table = pq.read_table(listed(evaluated)["predictions.parquet"]).to_pandas()
    assert table.weight.max() > 1.3 * table.weight.min()
    assert list(metrics["models"]) == ["hlf", "inclusive"]  # in the project's order, not that of the command line
    named = {of["model"]: f"{label}=models/{of['model']}/{of['run']}" for label, of in metrics["models"].items()}
    assert named == runs_of(evaluated.parents[1])
    for model, values in metrics["models"].items():
        for label, sample in enumerate(schema.SAMPLES):
            expected = roc_auc_score(table.label == label, table[f"{model}_{sample}"], sample_weight=table.weight)
            assert values["auc"][sample]["value"] == pytest.approx(expected, rel=1e-6)
            assert 0 < values["auc"][sample]["error"] < 0.3
    assert {name: values["events"] for name, values in metrics["test"].items()} == evaluation_data.TEST_EVENTS


def test_metrics_carry_what_the_stages_before_recorded(evaluated):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert metrics["cutflow"][0] == {
        "name": "events",
        "events": dict.fromkeys(schema.SAMPLES, 500),
        "weights": dict.fromkeys(schema.SAMPLES, 625.0),
        "negative_share": evaluation_data.NEGATIVE_SHARES,
        "effective_events": dict.fromkeys(schema.SAMPLES, 375.0),
    }
    assert metrics["cutflow"][-1]["events"] == evaluation_data.TEST_EVENTS
    assert metrics["quarantined"] == [{"source": BAD_FILE["source"], "reason": BAD_FILE["reason"]}]
    assert metrics["notes"] == ["ttbar/day/ttbar-1.root: no MuonTight, Muon is used"]
    assert metrics["configuration"]["training"]["epochs"] == 2
    assert metrics["configuration"]["evaluation"]["bootstrap_samples"] == 10
    assert metrics["configuration"]["selection"]["lepton_pt_min"] == 23.0
    assert metrics["code_versions"]["dataset"] == "abc1234"
    assert metrics["models"]["hlf"]["history"] == evaluation_data.HISTORY
    assert {"python", "numpy", "keras"} <= set(metrics["packages"])


def test_the_importance_of_every_input_is_there(evaluated):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    events = sum(evaluation_data.TEST_EVENTS.values())
    expected = {"hlf": schema.HIGH_LEVEL_FEATURES, "inclusive": (*schema.HIGH_LEVEL_FEATURES, *PARTICLE_GROUPS)}
    for label, names in expected.items():
        found = metrics["importance"][label]
        assert (found["events"], tuple(found["exchanged"])) == (events, names)


def test_varied_events_are_compared_with_themselves_however_they_are_scaled(copy):
    write_varied(copy, "alike", lambda events: events)
    write_varied(copy, "changed", lambda events: events + np.float32(0.3))
    run_job(copy, "--replace", "--varied", "alike=alike", "changed=changed")
    systematics = json.loads((copy / "reports" / "demo" / "metrics.json").read_text())["systematics"]
    events = sum(evaluation_data.TEST_EVENTS.values())
    shifts = {}
    for name, found in systematics.items():
        assert (found["dataset"], found["events"], found["same_events"]) == (name, events, events)
        assert list(found["labels"]) == ["hlf", "inclusive"]
        points = [point for classes in found["labels"].values() for of in classes.values() for point in of]
        shifts[name] = [process["shift"]["value"] for point in points for process in point["processes"].values()]
    assert max(map(abs, shifts["alike"])) <= 1 / min(evaluation_data.TEST_EVENTS.values())  # one event, by rounding
    assert max(map(abs, shifts["changed"])) > 0.1


def test_a_report_keeps_its_varied_events_while_they_are_there(copy, caplog):
    hlf = runs_of(copy)["hlf"]
    alone = ["--labels", hlf, "--report", "alone"]
    for name in ("alike", "gone"):
        write_varied(copy, name, lambda events: events)
    run_job(copy, *alone, "--varied", "up=alike", "down=gone")
    shutil.rmtree(copy / "datasets" / "gone")
    run_job(copy, *alone, "--keep-labels")
    metrics = json.loads((copy / "reports" / "alone" / "metrics.json").read_text())
    assert {name: of["dataset"] for name, of in metrics["systematics"].items()} == {"up": "alike"}
    assert f"no longer in the report: {copy / 'datasets' / 'gone'} holds no dataset" in caplog.text


def write_varied(base, name, vary):
    """The dataset's events with other high-level features, in another scaling."""
    with pytest.MonkeyPatch.context() as patch:
        scaling, events_of = evaluation_data.make_scaling(), evaluation_data.make_events
        other = replace(
            scaling, high_level_scale=2 * scaling.high_level_scale, high_level_offset=np.ones(14, np.float32)
        )

        def make_events(*args, **options):
            return [
                event | {"high_level": other.rescale_high_level(vary(event["high_level"]), scaling)}
                for event in events_of(*args, **options)
            ]

        patch.setattr(evaluation_data, "make_scaling", lambda: other)
        patch.setattr(evaluation_data, "make_events", make_events)
        evaluation_data.write_dataset(base, name)


def test_a_variation_is_named_once():
    given = ["--base", "b", "--dataset", "demo", "--report", "demo", "--labels", "a=models/hlf/b"]
    with pytest.raises(InvalidInputError, match="--varied: up is given twice; choose another name for two"):
        evaluate.main(evaluate.arg_parser().parse_args([*given, "--varied", "up=one", "up=two"]))


def test_latencies_are_with_the_times(evaluated):
    times = json.loads((evaluated / "timing.json").read_text())
    assert times["latency"] == {"hlf": LATENCY, "inclusive": LATENCY}


def test_page_shows_the_numbers_of_the_metrics(evaluated):
    page = (evaluated / "report.html").read_text()
    metrics = json.loads((evaluated / "metrics.json").read_text())
    for values in metrics["models"].values():
        for quantity in (*values["auc"].values(), values["accuracy"]):
            assert f"{quantity['value']:.4f} ± {quantity['error']:.4f}" in page
    assert "qcd/day/&lt;odd&gt;.root" in page
    assert "<odd>" not in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "reports/demo" in page  # its own time
    assert page.count("<td>scores</td>") == 2


def test_a_second_run_redoes_nothing_and_shows_the_table(copy, caplog):
    report = copy / "reports" / "demo"
    before = {path: path.stat().st_mtime_ns for path in report.rglob("*") if path.is_file()}
    with caplog.at_level("INFO"):
        run_job(copy)
    assert "nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in report.rglob("*") if path.is_file()} == before
    assert format_table(json.loads((report / "metrics.json").read_text())) in caplog.text
    assert str(report / "report.html") in caplog.text


def test_a_lost_report_comes_back_identical(copy, evaluated):
    shutil.rmtree(copy / "reports")
    run_job(copy)
    after, before = files_of(copy / "reports" / "demo"), files_of(evaluated)
    differ = {name for name in before if after.get(name) != before[name]}
    assert after.keys() == before.keys()
    assert differ <= {"report.html", "timing.json"}  # which show times


@pytest.mark.parametrize("name", ["roc.png", "metrics.json", "predictions.parquet"])
def test_a_lost_file_makes_the_report_anew(copy, name, monkeypatch):
    listed(copy / "reports" / "demo")[name].unlink()
    monkeypatch.setattr(evaluate, "_make", mark_as_made)
    with pytest.raises(Made):
        run_job(copy)


@pytest.mark.parametrize("name", ["report.html", "metrics.json"])
def test_a_lost_page_is_written_again_from_what_is_published(copy, name, monkeypatch):
    path = copy / "reports" / "demo" / name
    before = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(evaluate, "_make", mark_as_made)
    run_job(copy)
    assert path.read_bytes() == before


def test_recompute_makes_the_report_anew_and_the_same(copy, monkeypatch):
    before = files_of(copy / "reports" / "demo")
    run_job(copy, "--recompute")
    after = files_of(copy / "reports" / "demo")
    assert after["timing.json"] != before["timing.json"]
    assert {name for name in after if after[name] != before.get(name)} <= {"report.html", "timing.json"}


def test_other_code_makes_the_report_anew(copy, monkeypatch):
    monkeypatch.setitem(CODE_NUMBERS, "evaluate", CODE_NUMBERS["evaluate"] + 1)
    monkeypatch.setattr(evaluate, "_make", mark_as_made)
    with pytest.raises(Made):
        run_job(copy)


def test_the_history_is_shown_and_nothing_else_done(copy, capsys):
    run_job(copy, "--set", "seed=2", "--replace")
    capsys.readouterr()
    run_job(copy, "--history")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    assert "seed 1 → 2" in lines[2]


def test_a_sweep_takes_what_was_replaced(copy):
    old = listed(copy / "reports" / "demo")
    run_job(copy, "--set", "seed=2", "--replace")
    assert all(path.exists() for path in old.values())
    run_job(copy, "--set", "seed=2", "--sweep")
    new = listed(copy / "reports" / "demo")
    assert not any(path.exists() for path in old.values() if path not in new.values())
    assert all(path.exists() for path in new.values())


def labels_in(base):
    return list(json.loads((base / "reports" / "demo" / "metrics.json").read_text())["models"])


def test_other_labels_make_the_report_anew(copy):
    run = runs_of(copy)["hlf"].partition("=")[2]
    run_job(copy, "--labels", f"first={run}", f"second={run}")
    assert labels_in(copy) == ["first", "second"]


def test_a_report_keeps_its_labels_and_searches_if_asked_to(copy, monkeypatch):
    (copy / "studies" / "first").mkdir(parents=True)
    (copy / "studies" / "first" / "search.json").write_text(json.dumps(evaluation_data.SEARCH))
    run_job(copy, "--labels", runs_of(copy)["hlf"], "--keep-labels", "--studies", "first", "not-ended")
    report = copy / "reports" / "demo"
    assert json.loads((report / "metrics.json").read_text())["search"] == {"first": evaluation_data.SEARCH}
    assert 'id="search"' in (report / "report.html").read_text()
    monkeypatch.setattr(evaluate, "_make", mark_as_made)
    run_job(copy, "--labels", runs_of(copy)["hlf"], "--keep-labels")  # nothing to do
    with pytest.raises(Made):
        run_job(copy, "--labels", runs_of(copy)["hlf"])


def test_labels_that_another_run_publishes_meanwhile_are_kept(copy, monkeypatch, caplog):
    run, score = runs_of(copy)["hlf"].partition("=")[2], evaluate._score

    def another_is_faster(*given, **options):
        monkeypatch.setattr(evaluate, "_score", score)
        run_job(copy, "--labels", f"first={run}", "--keep-labels")
        score(*given, **options)

    monkeypatch.setattr(evaluate, "_score", another_is_faster)
    with caplog.at_level("INFO"):
        run_job(copy, "--labels", f"second={run}", "--keep-labels")
    assert f"another run has published {copy / 'reports' / 'demo'} meanwhile: once more" in caplog.text
    assert labels_in(copy) == ["first", "hlf", "second", "inclusive"]


def test_what_is_kept_is_what_was_published_whatever_the_page_shows(copy):
    """The run that published it ended before it had written the page."""
    run, report = runs_of(copy)["hlf"].partition("=")[2], copy / "reports" / "demo"
    old = (report / "metrics.json").read_bytes()
    run_job(copy, "--labels", f"first={run}", "--keep-labels")
    (report / "metrics.json").write_bytes(old)
    run_job(copy, "--labels", f"second={run}", "--keep-labels")
    assert labels_in(copy) == ["first", "hlf", "second", "inclusive"]


def test_scores_are_published_once(copy, monkeypatch):
    shutil.rmtree(copy / "reports")
    monkeypatch.setattr("toposieve.evaluation.scoring.load_model", mark_as_made)
    run_job(copy)
    assert labels_in(copy) == ["hlf", "inclusive"]
    shutil.rmtree(copy / "scores")
    with pytest.raises(Made):
        run_job(copy)


def test_another_configuration_needs_replace(copy):
    with pytest.raises(InvalidInputError, match="--replace"):
        run_job(copy, "--set", "seed=2")
    before = json.loads((copy / "reports" / "demo" / "metrics.json").read_text())
    run_job(copy, "--set", "seed=2", "--replace")
    after = json.loads((copy / "reports" / "demo" / "metrics.json").read_text())
    assert after["models"]["hlf"]["auc"]["qcd"]["value"] == before["models"]["hlf"]["auc"]["qcd"]["value"]
    assert after["models"]["hlf"]["auc"]["qcd"]["error"] != before["models"]["hlf"]["auc"]["qcd"]["error"]


def test_a_model_that_is_not_trained_leaves_the_report_on_the_others(copy):
    with pytest.raises(InvalidInputError) as caught:
        run_job(copy, "--missing", "particle_sequence")
    report = copy / "reports" / "demo"
    assert str(caught.value).startswith(f"{report}/report.html is without particle_sequence, whose training failed: ")
    metrics = json.loads((report / "metrics.json").read_text())
    assert list(metrics["models"]) == ["hlf", "inclusive"]
    assert metrics["missing"] == ["particle_sequence"]
    assert "not in this report: particle_sequence" in (report / "report.html").read_text()
    run_job(copy)  # the same runs, but now nothing is missing
    assert json.loads((report / "metrics.json").read_text())["missing"] == []
    assert "not in this report" not in (report / "report.html").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dataset", "none"], "prepare_features.py"),
        (["--dataset", "../datasets/demo"], "--dataset '../datasets/demo': use letters"),
        (["--report", "a/b"], "--report 'a/b': use letters"),
        (
            ["--models", "hlf", "gru"],
            "no more: name the runs, as their trainings' logs do, --labels hlf=models/hlf/RUN",
        ),
        (["--labels", "hlf"], "--labels hlf: '' is no run: expected NAME=models/MODEL/RUN"),
        (["--labels", "a=models/../hlf"], "--labels a: 'models/../hlf' is no run: expected NAME=models/MODEL/RUN"),
        (["--labels", "a b=models/hlf/0"], "--labels 'a b': use letters"),
        (["--labels", "a=models/hlf/0", "a=models/hlf/1"], "a is given twice; choose another name for models/hlf/1"),
        (["--labels", "a=models/hlf/0"], "a: {base}/models/hlf/0 holds no finished run: train it"),
        (["--labels"], "expected at least one argument"),
        (["--set", "bootstrap=2"], "bootstrap: unknown key"),
    ],
)
def test_invalid_input_ends_with_code_2(trained, more, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments(trained, *more)])
    monkeypatch.setattr("logging.raiseExceptions", True)  # a job sets it for its whole process
    with pytest.raises(SystemExit) as caught:
        cli.run(evaluate.main, evaluate.arg_parser())
    assert caught.value.code == 2
    assert message.replace("{base}", str(trained)) in capsys.readouterr().err


def test_a_report_of_nothing_is_refused(trained):
    command = ["--base", str(trained), "--dataset", "demo", "--report", "other", "--missing", "hlf"]
    args = evaluate.arg_parser().parse_args(command)
    with pytest.raises(InvalidInputError, match="nothing to evaluate: the training of hlf failed"):
        evaluate.main(args)


def test_an_altered_shard_ends_with_code_2_and_leaves_no_report(trained, tmp_path, monkeypatch, capsys):
    base = shutil.copytree(trained, tmp_path / "base", ignore=shutil.ignore_patterns("reports"))
    shard = base / "datasets" / "demo" / evaluation_data.DIGITS / "test" / "shard-00000-of-00002.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments(base)])
    monkeypatch.setattr("logging.raiseExceptions", True)  # a job sets it for its whole process
    with pytest.raises(SystemExit) as caught:
        cli.run(evaluate.main, evaluate.arg_parser())
    assert caught.value.code == 2
    assert shard.name in capsys.readouterr().err
    assert not (base / "reports").exists()
