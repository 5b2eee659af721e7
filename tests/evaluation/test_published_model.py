"""Events, fed to a published model with nothing but what the registry has, get the scores of its evaluation."""

import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from dataclasses import dataclass

import keras
import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax

import export_model
import import_dataset
import score
from support import evaluation_data
from support.delphes_files import write_events
from support.events import random_events
from support.on_spark import run_here
from support.published_files import write_published
from support.published_models import evaluate_and_publish
from toposieve import registry, schema
from toposieve.config import SelectionConfig, TrainingConfig, load_config
from toposieve.errors import InvalidInputError
from toposieve.io.decisions import decisions_folder
from toposieve.io.delphes import inspect_file, read_events
from toposieve.io.manifests import fingerprint, read_manifest
from toposieve.io.scores import read_scores, scores_folder
from toposieve.io.selected import SelectedBatch
from toposieve.io.store import Key
from toposieve.models import HIGH_LEVEL, PARTICLES
from toposieve.physics.features import low_level_features, sequence_order
from toposieve.physics.selection import SelectedEvents, select_events
from toposieve.preprocessing import SCALED_FEATURES, Scaling
from toposieve.serving.events import Event
from toposieve.serving.exports import read_export, read_portable
from toposieve.serving.scorer import Scorer
from toposieve.spark import decisions
from toposieve.spark.preparation_passes import scale_particles
from toposieve.training.architectures.parts import logits_of
from toposieve.training.export import scaled_part

# Keras 3.15 and TensorFlow 2.21 under numpy 2, when a model is saved or loaded.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

MODELS = ("hlf", "particle_sequence")
TOLERANCE = 1e-5
EVENTS = 60
"""Of each sample, before the selection."""


@dataclass
class Read:
    """The selected events of one ROOT file."""

    ids: list[str]
    selected: SelectedEvents
    batch: SelectedBatch


def read(raw: Key, sample: str, config: SelectionConfig) -> Read:
    """Read and select."""
    file = inspect_file(raw, f"{sample}/2026-01-01/a.root")
    (batch,) = read_events(file, 0, file.entries)
    selected = select_events(batch.events, config, btag_mask=config.btag_mask[sample])
    ids = [f"{file.id}:{entry}" for entry in (batch.entry_start + selected.rows).tolist()]
    return Read(ids, selected, SelectedBatch.of(batch, selected))


def fit(reads):
    """A scaling with another offset and spread for every feature."""
    high_level = np.concatenate([each.batch.high_level for each in reads])
    particles = np.concatenate([low_level_features(each.selected.particles) for each in reads])
    offset, scale = particles.mean(axis=0), particles.std(axis=0)
    is_scaled = np.isin(schema.LOW_LEVEL_FEATURES, SCALED_FEATURES)
    spread = np.ptp(high_level, axis=0)
    return Scaling(
        high_level.min(axis=0),
        np.where(spread > 0, spread, 1).astype(np.float32),
        np.where(is_scaled, offset, 0).astype(np.float32),
        np.where(is_scaled & (scale > 0), scale, 1).astype(np.float32),
        dict.fromkeys(schema.SAMPLES, 1.0),
    )


def prepared(sample, each, scaling):
    """Events as preparation writes them."""
    offsets = each.batch.offsets
    high_level = scaling.apply_high_level(each.batch.high_level)
    particles = scale_particles(each.batch.particle_records(), offsets, scaling)
    return [
        {
            "high_level": high_level[i],
            "particles": particles[offsets[i] : offsets[i + 1]],
            "length": int(offsets[i + 1] - offsets[i]),
            "label": schema.SAMPLES.index(sample),
            "weight": 1.0,
            "event_id": event_id.encode(),
        }
        for i, event_id in enumerate(each.ids)
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Raw files, a dataset of their events, two models, their report; each model is published by its own name."""
    folder = tmp_path_factory.mktemp("base")
    for seed, sample in enumerate(schema.SAMPLES):
        events = random_events(seed, EVENTS, particles=12)
        write_events(folder / "raw" / sample / "2026-01-01" / "a.root", events)
    base = evaluation_data.base_key(folder)
    reads = {sample: read(base / "raw", sample, SelectionConfig()) for sample in schema.SAMPLES}
    scaling = fit(list(reads.values()))
    events = [event for sample, each in reads.items() for event in prepared(sample, each, scaling)]
    splits = {split: [events[i::3]] for i, split in enumerate(schema.SPLITS)}
    dataset = evaluation_data.write_dataset_of(folder, splits, scaling)
    runs = {}
    for model in MODELS:
        config = TrainingConfig(model=model)
        runs[model] = evaluation_data.write_run(folder, dataset, config, bias=(0.1, 0.0, -0.1), scaling=scaling)
    evaluate_and_publish(base, "demo", runs)
    return base


def inputs_of(selected, names):
    """A model's inputs in physical units, in the order of the schema, padded on the right."""
    order = sequence_order(selected.offsets, selected.particles["Eta"], selected.particles["Phi"])
    flat, offsets = low_level_features(selected.particles)[order], selected.offsets
    padded = np.zeros((len(selected.rows), int(np.diff(offsets).max()), flat.shape[1]), np.float32)
    for i in range(len(padded)):
        padded[i, : offsets[i + 1] - offsets[i]] = flat[offsets[i] : offsets[i + 1]]
    given = {HIGH_LEVEL: selected.high_level.astype(np.float32), PARTICLES: padded}
    return {name: given[name] for name in names}


def scaled(inputs, scaling):
    """The same, scaled; padding stays 0."""
    apply = {HIGH_LEVEL: scaling.apply_high_level, PARTICLES: scaling.apply_particles}
    present = {name: np.any(values != 0, axis=-1, keepdims=True) for name, values in inputs.items()}
    return {name: np.where(present[name], apply[name](values), 0) for name, values in inputs.items()}


@pytest.mark.parametrize("model", MODELS)
def test_raw_events_get_the_scores_and_the_decisions_of_the_evaluation(base, model):
    _, version, files = registry.open_published(registry.registry_folder(base, model))
    with files["model.keras"].fetch() as path:
        published = keras.models.load_model(path, compile=False)
    logits = logits_of(scaled_part(published, version.architecture))
    scaling = Scaling.from_json(files["scaling.json"].read_text())
    selection = load_config(SelectionConfig, json.dumps(version.configuration["selection"]))
    found = {}
    for sample in schema.SAMPLES:
        each = read(base / "raw", sample, selection)
        inputs = inputs_of(each.selected, version.features)
        scores = logits(scaled(inputs, scaling)).numpy()
        found |= dict(zip(each.ids, zip(scores, published(inputs).numpy(), strict=True), strict=True))

    run = base / f"models/{model}/{version.metrics['run']}"
    evaluated = read_scores(scores_folder(base, "demo", run), "test")
    of_test = [found[event_id] for event_id in evaluated.event_ids.to_pylist()]
    assert len(of_test) > EVENTS / 4
    scores, probabilities = (np.array(each) for each in zip(*of_test, strict=True))
    np.testing.assert_allclose(scores, evaluated.logits, rtol=0, atol=TOLERANCE)
    expected = softmax(evaluated.logits, axis=1)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=TOLERANCE)
    assert version.classes == schema.SAMPLES
    points = [(place, p["threshold"]) for place, name in enumerate(version.classes) for p in version.thresholds[name]]
    decisions = np.array([expected[:, place] >= threshold for place, threshold in points])  # (points, events)
    np.testing.assert_array_equal([probabilities[:, place] >= threshold for place, threshold in points], decisions)
    assert 0 < np.count_nonzero(decisions) < decisions.size


def export(base, model, *options):
    export_model.main(export_model.arg_parser().parse_args(["--base", str(base), "--name", model, *options]))


def with_one_weight_moved(content):
    """A portable form of which one weight is a thousandth off."""
    model = onnx.load_from_string(content)
    (last,) = [each for each in model.graph.initializer if each.name == "logits_bias"]
    values = onnx.numpy_helper.to_array(last).copy()
    values.flat[0] += 1e-3
    last.CopyFrom(onnx.numpy_helper.from_array(values, last.name))
    return model.SerializeToString()


def check_what_it_says_of_itself(base, session, version):
    said = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert said["architecture"] == version.architecture
    assert said["classes"] == list(schema.SAMPLES)
    assert said["lineage"] == version.lineage
    assert said["lineage"]["datasets/demo"] == fingerprint(read_manifest(base / "datasets" / "demo"))
    features = {name: [tuple(each) for each in of] for name, of in said["features"].items()}
    assert features == {name: [(each.name, each.unit) for each in of] for name, of in version.features.items()}
    assert features.keys() == {each.name for each in session.get_inputs()} - {"lengths"}
    for name, order in ((HIGH_LEVEL, schema.HIGH_LEVEL_FEATURES), (PARTICLES, schema.LOW_LEVEL_FEATURES)):
        assert name not in features or [feature for feature, _ in features[name]] == list(order)
    points = {name: {p["target"]: p["threshold"] for p in of} for name, of in version.thresholds.items()}
    assert {name: {p["target"]: p["threshold"] for p in of} for name, of in said["thresholds"].items()} == points


@pytest.mark.parametrize("model", MODELS)
def test_raw_events_get_the_same_from_the_exported_model(base, model):
    folder = registry.registry_folder(base, model)
    portable = export_model._portable
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_model, "_portable", lambda *what: with_one_weight_moved(portable(*what)))
        with pytest.raises(InvalidInputError, match=r"differs by .*, 1e-05 at most: it is not kept"):
            export(base, model)
    with pytest.raises(InvalidInputError, match="no portable form"):
        read_export(folder, 1)
    export(base, model)
    kept = read_export(folder, 1)
    assert kept.difference <= TOLERANCE
    export(base, model, "--version", "1")  # is there already
    assert read_export(folder, 1) == kept

    _, version, _ = registry.open_published(folder)
    session = onnxruntime.InferenceSession(read_portable(folder, 1))
    check_what_it_says_of_itself(base, session, version)
    target = version.thresholds["ttbar"][0]["target"]
    scorer = Scorer.load(folder, 1, target)
    run = base / f"models/{model}/{version.metrics['run']}"
    evaluated = read_scores(scores_folder(base, "demo", run), "test")
    assert kept.events == len(evaluated.logits)
    found, shares = {}, {}
    for sample in schema.SAMPLES:
        each = read(base / "raw", sample, SelectionConfig())
        given = inputs_of(each.selected, version.features)
        if PARTICLES in given:
            given["lengths"] = np.diff(each.selected.offsets).astype(np.int32)
        shares |= dict(zip(each.ids, *session.run(["probabilities"], given), strict=True))
        records, offsets = each.batch.particle_records(), each.batch.offsets
        events = [
            Event(event_id, each.batch.high_level[i].astype(np.float32), records[offsets[i] : offsets[i + 1]])
            for i, event_id in enumerate(each.ids)
        ]
        found |= {answer.event_id: answer for answer in scorer.score(events)}
    of_test = [found[event_id] for event_id in evaluated.event_ids.to_pylist()]
    np.testing.assert_allclose([each.logits for each in of_test], evaluated.logits, rtol=0, atol=TOLERANCE)
    expected = softmax(evaluated.logits, axis=1)
    np.testing.assert_allclose([shares[each.event_id] for each in of_test], expected, rtol=0, atol=TOLERANCE)
    thresholds = [
        next(p["threshold"] for p in version.thresholds[name] if p["target"] == target) for name in scorer.classes
    ]
    accepted = expected >= thresholds
    np.testing.assert_array_equal([each.accepted for each in of_test], accepted)
    assert 0 < np.count_nonzero(accepted) < accepted.size


def test_an_imported_dataset_gets_the_scores_of_its_evaluation_from_the_exported_model(tmp_path, monkeypatch):
    """As it is, for nobody knows how it was scaled."""
    monkeypatch.setattr(decisions, "run_on_spark", run_here)
    monkeypatch.setattr("toposieve.spark.session.SparkOnDemand.__call__", lambda _: None)
    write_published(tmp_path / "files")
    folders = [f"--{split}={tmp_path / 'files' / split}" for split in ("train", "test")]
    where = ["--base", str(tmp_path), "--dataset", "theirs"]
    import_dataset.main(import_dataset.arg_parser().parse_args([*where, *folders]))
    base, config = evaluation_data.base_key(tmp_path), TrainingConfig(model="inclusive")
    bias = (0.1, 0.0, -0.1)
    run = evaluation_data.write_run(tmp_path, tmp_path / "datasets/theirs", config, bias=bias, physical=False)
    evaluate_and_publish(base, "theirs", {"inclusive": run})
    export(base, "inclusive")
    score.main(score.arg_parser().parse_args([*where, "--name", "inclusive"]))

    evaluated = read_scores(scores_folder(base, "theirs", base / run.relative_to(tmp_path).as_posix()), "test")
    folder = decisions_folder(base, "inclusive", 1, "datasets/theirs")
    units = [unit for unit in read_manifest(folder).units if unit.source.startswith("test/")]
    found = pa.concat_tables(pq.read_table(str(folder / unit.outputs[0].path)) for unit in units)
    assert found["event_id"].to_pylist() == evaluated.event_ids.to_pylist()
    scores = np.stack([found[f"score_{name}"] for name in schema.SAMPLES], axis=1)
    np.testing.assert_allclose(scores, evaluated.logits, rtol=0, atol=TOLERANCE)
