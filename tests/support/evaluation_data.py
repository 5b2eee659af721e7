"""A small dataset with its cutflow, and finished training runs on it, as evaluation finds them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from support.training_data import write_shard
from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import EvaluationConfig, PreparationConfig, SelectionConfig, TrainingConfig
from toposieve.io import datasets, manifests
from toposieve.io.dataset_classes import CLASSES
from toposieve.io.names import digest
from toposieve.io.store import Key, root_key
from toposieve.preprocessing import Scaling
from toposieve.training import runs

HIGH, LOW = len(schema.HIGH_LEVEL_FEATURES), len(schema.LOW_LEVEL_FEATURES)
TEST_EVENTS = {"qcd": 20, "ttbar": 16, "wjets": 18}
NEGATIVE_SHARES = {"qcd": 0.0, "ttbar": 0.25, "wjets": 0.0}
DIGITS = digest("dataset")
"""Folder of a dataset's files."""

Events = list[dict[str, object]]

SCALE = 50.0
"""Of every high-level feature; the offset is a tenth of it."""


def make_events(sizes: dict[str, int], seed: int, *, particles: int = 6) -> Events:
    """Scaled events of three separable classes, in random order."""
    random = np.random.default_rng(seed)
    events = []
    for sample, count in sizes.items():
        label = schema.SAMPLES.index(sample)
        for number in range(count):
            length = int(random.integers(2, particles + 1))
            high_level = random.uniform(0, 1, HIGH) + 0.7 * (np.arange(HIGH) == label)
            rows = random.normal(size=(length, LOW)) + 0.8 * (np.arange(LOW) == label)
            event = {
                "high_level": high_level.astype(np.float32),
                "particles": rows.astype(np.float32),
                "length": length,
                "label": label,
                "weight": random.uniform(0.5, 1.5),
                "event_id": f"{sample}/day/{sample}-{seed}.root:{number}".encode(),
            }
            events.append(event)
    return [events[place] for place in random.permutation(len(events))]


def write_dataset(
    base: Path, name: str = "demo", *, sizes: dict[str, int] = TEST_EVENTS, quarantined: Sequence[dict[str, str]] = ()
) -> Path:
    """Write a dataset of random events with two shards a split and everything its manifest tells."""
    splits = {split: _random_halves(sizes, seed) for seed, split in enumerate(schema.SPLITS)}
    return write_dataset_of(base, splits, make_scaling(), name, quarantined=quarantined)


def write_dataset_of(
    base: Path,
    splits: Mapping[str, Sequence[Events]],
    scaling: Scaling,
    name: str = "demo",
    *,
    quarantined: Sequence[dict[str, str]] = (),
) -> Path:
    """Write a dataset of these scaled events, and everything its manifest tells.

    Args:
        base: Where all data lies.
        splits: Split → events of each shard, as :func:`make_events` makes them.
        scaling: What they are scaled by.
        name: Of the dataset.
        quarantined: Files that were left out.
    """
    directory = base / "datasets" / name
    directory.mkdir(parents=True)
    units = [unit for split, shards in splits.items() for unit in _write_split(directory, split, shards)]
    path = f"{DIGITS}/{datasets.SCALING_NAME}"
    (directory / path).write_text(scaling.to_json())
    units.append(_unit(datasets.SCALING_SOURCE, 0, {}, manifests.describe_file(directory / path, path)))
    counts = Counter(event["label"] for shard in splits["test"] for event in shard)
    sizes = {sample: counts[label] for label, sample in enumerate(schema.SAMPLES)}
    manifest = manifests.Manifest(
        stage=datasets.STAGE,
        config_hash="0" * 16,
        config={"preparation": PreparationConfig().model_dump(mode="json"), "partitions": ["day"]},
        units=tuple(units),
        notes=("ttbar/day/ttbar-1.root: no MuonTight, Muon is used",),
        extra={
            CLASSES: list(schema.SAMPLES),
            "cutflow": {sample: _cutflow(sizes[sample], 1) for sample in schema.SAMPLES},
            "weighted_cutflow": {sample: _cutflow(sizes[sample], 1.25) for sample in schema.SAMPLES},
            "negative_share": {s: dict.fromkeys(_cutflow(0, 1), share) for s, share in NEGATIVE_SHARES.items()},
            "effective_events": {sample: _cutflow(sizes[sample], 0.75) for sample in schema.SAMPLES},
            "selection": SelectionConfig().model_dump(mode="json"),
            "quarantined": list(quarantined),
        },
        code_version="abc1234",
    )
    save_manifest(directory, manifest)
    return directory


def save_manifest(directory: Path, manifest: manifests.Manifest) -> None:
    """Write a manifest as it is, whatever the directory holds."""
    (directory / manifests.manifest_name(1)).write_bytes(manifest.to_bytes())


def make_scaling() -> Scaling:
    """A scaling that is the same for all high-level features."""
    return Scaling(
        high_level_offset=np.full(HIGH, SCALE / 10, np.float32),
        high_level_scale=np.full(HIGH, SCALE, np.float32),
        particle_offset=np.zeros(LOW, np.float32),
        particle_scale=np.ones(LOW, np.float32),
        weight_factors=dict.fromkeys(schema.SAMPLES, 0.8),
    )


def _random_halves(sizes: dict[str, int], seed: int) -> list[Events]:
    parts = [{sample: count // 2 + (count % 2 if half else 0) for sample, count in sizes.items()} for half in range(2)]
    return [make_events(part, 10 * seed + half) for half, part in enumerate(parts)]


def _write_split(directory: Path, split: str, shards: Sequence[Events]) -> list[manifests.Unit]:
    units = []
    for shard, events in enumerate(shards):
        name = f"{DIGITS}/{split}/shard-{shard:05d}-of-{len(shards):05d}.tfrecord"
        counts = Counter(event["label"] for event in events)
        part = {sample: counts[label] for label, sample in enumerate(schema.SAMPLES)}
        files = [
            manifests.describe_file(path, path.relative_to(directory).as_posix())
            for path in write_shard(directory / name, events)
        ]
        units.append(_unit(f"{split}/{shard}", len(events), {"events": len(events), **part}, *files))
    return units


def _unit(source: str, events: int, counts: dict[str, int], *files: manifests.OutputFile) -> manifests.Unit:
    return manifests.Unit(
        source=source, source_checksum="", entry_start=0, entry_stop=events, counts=counts, outputs=files
    )


def _cutflow(test: int, factor: float) -> dict[str, Any]:
    steps = {"events": 500, "lepton_pt": 100, "isolated_lepton": 60, "balanced": 3 * test}
    return {step: count * factor for step, count in (steps | dict.fromkeys(schema.SPLITS, test)).items()}


def base_key(base: Path) -> Key:
    """The base as jobs see it."""
    return root_key("--base", str(base))


def write_run(
    base: Path,
    dataset: Path,
    config: TrainingConfig,
    *,
    bias: Sequence[float] | None = None,
    scaling: Scaling | None = None,
    weights: Sequence[np.ndarray] | None = None,
    physical: bool = True,
) -> Path:
    """Publish a run as training does; its model file is a placeholder, or with ``bias`` that of :func:`save_model`.

    It takes physical units, or events as they are in the dataset.
    """
    fingerprint = manifests.fingerprint(manifests.read_manifest(base_key(dataset)))
    directory = Path(str(runs.run_directory(base_key(base), fingerprint, config)))
    folder = run_folder(directory)
    folder.mkdir(parents=True)
    extra = {}
    if bias is None:
        (folder / runs.MODEL_FILE).write_bytes(b"a model")
    else:
        known = scaling or make_scaling() if physical else None
        extra["layers"] = save_model(folder / runs.MODEL_FILE, config, bias, known, weights)
    (folder / runs.HISTORY_FILE).write_text(json.dumps(HISTORY))
    (folder / runs.METRICS_FILE).write_text(json.dumps(RUN_METRICS))
    names = (runs.MODEL_FILE, runs.HISTORY_FILE, runs.METRICS_FILE)
    unit = manifests.Unit(
        source=f"datasets/{dataset.name}",
        source_checksum="",
        entry_start=0,
        entry_stop=1,
        counts={},
        outputs=tuple(manifests.describe_file(folder / name, f"{folder.name}/{name}") for name in names),
    )
    save_manifest(
        directory,
        manifests.Manifest(
            stage="training",
            config_hash=config.hash,
            config=config.model_dump(mode="json"),
            code=CODE_NUMBERS["train"],
            inputs={f"datasets/{dataset.name}": fingerprint},
            units=(unit,),
            extra=extra,
            code_version="def5678",
        ),
    )
    return directory


def run_folder(directory: Path) -> Path:
    """Where a run of :func:`write_run` has its files."""
    return directory / digest("run")


HISTORY = {"loss": [1.0, 0.8], "accuracy": [0.4, 0.6], "validation_loss": [1.1, 0.9], "validation_accuracy": [0.4, 0.5]}
RUN_METRICS = {
    "parameters": 2013,
    "best_epoch": 2,
    "epochs": 2,
    **{name: values[-1] for name, values in HISTORY.items()},
}


def save_model(
    path: Path,
    config: TrainingConfig,
    bias: Sequence[float],
    scaling: Scaling | None,
    weights: Sequence[np.ndarray] | None = None,
) -> list[str]:
    """Save a model with fresh weights, or these; ``bias`` is added to the scores before the softmax.

    Returns:
        Its layers, as a manifest describes them.
    """
    from toposieve.training.architectures import build_model
    from toposieve.training.architectures.parts import LOGITS_LAYER
    from toposieve.training.export import save_standard
    from toposieve.training.layers import describe_layers

    model = build_model(config, len(bias))
    if weights is not None:
        model.set_weights(weights)
    layer = model.get_layer(LOGITS_LAYER)
    layer.set_weights([layer.get_weights()[0], np.asarray(bias, np.float32)])
    save_standard(path, model, scaling)
    return describe_layers(model)


SEARCH = {
    "model": "hlf",
    "trials": [
        {
            "number": number,
            "values": {"learning_rate": 1e-3 * (number + 1), "hlf_units": units, "learning_rate_schedule": "cosine"},
            "epochs": epochs,
            "loss": loss,
        }
        for number, (units, epochs, loss) in enumerate(
            [([8], 9, 0.5), ([64, 64], 1, 0.7), ([8], 9, 0.6), ([8], 1, None), ([8], 9, 0.4)]
        )
    ],
    "importances": {"learning_rate": 0.7, "hlf_units": 0.3},
    "importance_epochs": 9,
}
"""Summary of a search of five trials."""


LOSS = {"value": 0.02, "error": 0.003}
IMPORTANCE = {"hlf": {"events": 100, "target": 0.9, "exchanged": {"HT": {"auc": dict.fromkeys(schema.SAMPLES, LOSS)}}}}
VARIED = {
    "dataset": "demo.jets-up",
    "events": 150,
    "same_events": 140,
    "labels": {
        "hlf": {
            name: [{"target": 0.9, "processes": {each: {"share": LOSS, "shift": LOSS} for each in schema.SAMPLES}}]
            for name in schema.SAMPLES
        }
    },
}
"""What one variation does to one label."""


def make_metrics(events_per_class: int = 50) -> dict[str, Any]:
    """Content of a ``metrics.json`` with two models."""
    from toposieve.evaluation import performance

    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), events_per_class)
    weights = random.uniform(0.5, 1.5, len(labels))
    scores = {
        name: random.dirichlet(np.ones(3), len(labels)) + 0.4 * np.eye(3)[labels] for name in ("hlf", "inclusive")
    }
    config = EvaluationConfig(bootstrap_samples=20)
    events = performance.Sample(labels, weights, scores, schema.SAMPLES)
    measured = performance.measure(events, events, config, dict.fromkeys(schema.SAMPLES, (1000.0, 50.0)))
    run = {"model": "hlf", "run": "0123456789abcdef", "training": RUN_METRICS, "history": HISTORY}
    run |= {"parameters": 12_353, "bytes": 76_000}
    return {
        "report": "demo",
        "dataset": "demo",
        "classes": list(schema.SAMPLES),
        "sample": {"energy": 13.0, "pileup": 20.2},
        "test": performance.summarise_test_events(labels, weights, weights, schema.SAMPLES),
        "models": {model: values | run for model, values in performance.summarise_models(measured, events).items()},
        "missing": [],
        "importance": IMPORTANCE,
        "systematics": {"jets-up": VARIED},
        "search": {"first": SEARCH},
        "hertz": dict.fromkeys(schema.SAMPLES, 20.0),
        "seeds": [],
        "differences": performance.summarise_differences(measured),
        "cutflow": [
            {
                "name": "events",
                "events": {"qcd": 120_000, "ttbar": 900, "wjets": 800},
                "weights": {"qcd": 250_000.25, "ttbar": 900.0, "wjets": None},
                "negative_share": {"qcd": 0.125, "ttbar": 0.0, "wjets": None},
                "effective_events": {"qcd": 90_000.0, "ttbar": 900.0, "wjets": None},
            },
            {
                "name": "test",
                "events": dict.fromkeys(schema.SAMPLES, 50),
                "weights": dict.fromkeys(schema.SAMPLES, 61.5),
                "negative_share": dict.fromkeys(schema.SAMPLES, 0.1),
                "effective_events": dict.fromkeys(schema.SAMPLES, 40.0),
            },
        ],
        "quarantined": [],
        "notes": [],
        "configuration": {
            "evaluation": config.model_dump(mode="json"),
            "selection": SelectionConfig().model_dump(mode="json"),
        },
        "code_versions": {"dataset": "abc1234", "evaluation": "def5678"},
        "packages": {"numpy": "2.4.6"},
    }
