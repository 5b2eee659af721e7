"""What goes into a report: ``metrics.json`` and the figures, from predictions and what the stages before recorded."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from toposieve.config import EvaluationConfig
from toposieve.cross_sections import COLLISION_ENERGY
from toposieve.evaluation import (
    distributions,
    importance,
    metrics,
    performance,
    plots,
    seeds,
    slices,
    style,
    systematics,
)
from toposieve.evaluation.inputs import ModelRun, TestData
from toposieve.evaluation.performance import Performance
from toposieve.evaluation.predictions import Predictions
from toposieve.evaluation.report import OF_WEIGHTS
from toposieve.evaluation.search import draw_searches
from toposieve.io.dataset_classes import classes_of
from toposieve.io.manifests import Manifest
from toposieve.io.sample_cross_sections import cross_sections
from toposieve.io.scores import PermutedScores
from toposieve.training.shards import signed_factors
from toposieve.version import code_version

PACKAGES = (
    "awkward",
    "hist",
    "keras",
    "matplotlib",
    "mplhep",
    "numba",
    "numpy",
    "pyarrow",
    "pydantic",
    "pyspark",
    "pythia8mc",
    "scipy",
    "tensorflow",
    "tensorflow-cpu",
    "uproot",
)
"""Packages that results may depend on."""

logger = logging.getLogger(__name__)


def summarise(
    report: str,
    data: TestData,
    runs: Sequence[ModelRun],
    predictions: Predictions,
    measured: Performance,
    config: EvaluationConfig,
    missing: Sequence[str] = (),
    permuted: Mapping[str, PermutedScores | None] = MappingProxyType({}),
    searches: Mapping[str, Any] = MappingProxyType({}),
    shifts: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Content of ``metrics.json``: from the inputs and the configuration alone, no clock and no chance.

    Args:
        report: Name of the report.
        data: The test split.
        runs: The runs, each with its label.
        predictions: Scores of the test events.
        measured: Metrics and their resamplings.
        config: Working points and bootstrap.
        missing: Labels that were asked for but are not trained.
        permuted: Label → scores of permuted test events, where there are some.
        searches: What was tried for tuned models, as :func:`~toposieve.evaluation.search.read_searches` gives it.
        shifts: Variation → what of it passes otherwise, as :func:`toposieve.evaluation.systematics.summarise` gives it.
    """
    labels, weights, extra = predictions.labels, predictions.weights, data.manifest.extra
    models = performance.summarise_models(measured, predictions.sample)
    sliced = slices.quantities(predictions.columns, predictions.event_ids)
    for model, stable in _stability(measured, predictions, sliced).items():
        models[model]["stability"] = stable
    configurations = {run.label: {"model": run.model, **run.manifest.config} for run in runs}
    groups = seeds.summarise(models, seeds.seed_groups(configurations))
    return {
        "report": report,
        "dataset": data.directory.name,
        "classes": list(data.classes),
        "sample": _conditions(data.manifest, predictions),
        "test": performance.summarise_test_events(labels, weights, predictions.stored_weights, data.classes),
        "models": {run.label: models[run.label] | _describe_run(run) for run in runs},
        "importance": importance.summarise(predictions.sample, permuted, config),
        "systematics": dict(shifts),
        "missing": list(missing),
        "search": dict(searches),
        "hertz": {sample: metrics.number(hertz) for sample, hertz in zip(data.classes, measured.hertz, strict=True)},
        "seeds": groups,
        "differences": seeds.with_training_errors(performance.summarise_differences(measured), groups),
        "slices": {name: quantity.names for name, quantity in sliced.items()},
        "cutflow": _cutflow(extra),
        "quarantined": [{"source": bad["source"], "reason": bad["reason"]} for bad in extra.get("quarantined", ())],
        "notes": [*data.manifest.notes, *_left_out(data.manifest)],
        "configuration": {
            "evaluation": config.model_dump(mode="json"),
            "training": _training(runs),
            "dataset": data.manifest.config,
            "selection": extra.get("selection", {}),
        },
        "code_versions": {
            "dataset": data.manifest.code_version,
            **{run.label: run.manifest.code_version for run in runs},
            "evaluation": code_version(),
        },
        "packages": package_versions(),
    }


def _conditions(dataset: Manifest, predictions: Predictions) -> dict[str, float | None]:
    """√s in TeV, of our simulation, whose files alone say their cross-section; mean number of pile-up interactions."""
    ours = all(cross_sections(dataset).values())
    return {"energy": COLLISION_ENERGY if ours else None, "pileup": metrics.number(predictions.pileup.mean())}


def _stability(
    measured: Performance, predictions: Predictions, sliced: Mapping[str, slices.Quantity]
) -> dict[str, dict[str, Any]]:
    """Model → class → what passes its first working point, slice by slice."""
    sample = predictions.sample
    return {
        model: {
            name: slices.summarise(
                sliced,
                scores[:, label] >= measured.thresholds[place, label, 0],
                sample.labels,
                sample.weights,
                sample.classes,
            )
            for label, name in enumerate(sample.classes)
            if np.isfinite(measured.thresholds[place, label, 0])
        }
        for place, (model, scores) in enumerate(sample.scores.items())
    }


def _left_out(dataset: Manifest) -> list[str]:
    remarks = [
        f"{sample} is left out: its weights do not add up to more than 0 in the training split"
        for sample, factor in zip(classes_of(dataset), signed_factors(dataset), strict=True)
        if not factor
    ]
    for remark in remarks:
        logger.warning(remark)
    return remarks


def _describe_run(run: ModelRun) -> dict[str, Any]:
    return {
        "model": run.model,
        "run": run.directory.name,
        "parameters": run.metrics.get("parameters"),
        "bytes": run.model_bytes,
        "training": run.metrics,
        "history": run.history,
    }


def _training(runs: Sequence[ModelRun]) -> dict[str, Any]:
    """Values that all runs were trained with; label → value where they differ, or only some have one."""
    keys = dict.fromkeys(key for run in runs for key in run.manifest.config if key != "model")
    found = {key: {run.label: run.manifest.config[key] for run in runs if key in run.manifest.config} for key in keys}
    return {
        key: values[runs[0].label]
        if len(values) == len(runs) and all(value == values[runs[0].label] for value in values.values())
        else values
        for key, values in found.items()
    }


def _cutflow(extra: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Sample → step → value, turned into one entry for each step; undefined where the dataset does not say."""
    events: Mapping[str, Mapping[str, int]] = extra.get("cutflow", {})
    weights = {name: extra.get(recorded, {}) for name, (recorded, *_) in OF_WEIGHTS.items()}
    steps = dict.fromkeys(step for counts in events.values() for step in counts)
    return [
        {
            "name": step,
            "events": {sample: counts.get(step, 0) for sample, counts in events.items()},
            **{name: {sample: of.get(sample, {}).get(step) for sample in events} for name, of in weights.items()},
        }
        for step in steps
    ]


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed ones of :data:`PACKAGES`."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an image need not have them all: tensorflow or tensorflow-cpu, for example
            continue
    return found


def draw(
    directory: Path, metrics: Mapping[str, Any], predictions: Predictions, measured: Performance
) -> dict[str, Path]:
    """Draw every figure of the report into a directory.

    Returns:
        Figure → PNG file.
    """
    paths = {}
    with style.page_style():
        for name, figure in _figures(metrics, predictions, measured).items():
            paths[name] = directory / f"{name}.png"
            style.experiment_label(figure, metrics["sample"])
            style.save(figure, paths[name])
    return paths


def _figures(metrics: Mapping[str, Any], predictions: Predictions, measured: Performance) -> dict[str, Figure]:
    labels, weights = predictions.labels, predictions.weights
    histories = {label: values["history"] for label, values in metrics["models"].items() if values["history"]}
    figures = {
        "auc": plots.auc_summary(metrics),
        "roc": plots.rejection_curves(metrics, measured),
        **({"rates": plots.rate_curves(measured)} if np.isfinite(measured.hertz).all() else {}),
        "stability": plots.stability(metrics),
        "calibration": plots.reliability(metrics),
        "confusion": plots.confusion_matrices(metrics),
        **({"learning": plots.learning_curves(histories)} if histories else {}),
        **({"search": draw_searches(metrics["search"])} if metrics["search"] else {}),
        **({"importance": importance.draw_importances(metrics)} if metrics["importance"] else {}),
        **({"systematics": systematics.draw_shifts(metrics)} if metrics["systematics"] else {}),
        "scores": distributions.score_distributions(predictions.scores, labels, weights, predictions.classes),
    }
    if predictions.features.size:
        columns = predictions.features, predictions.particles
        figures["features"] = distributions.feature_distributions(*columns, labels, weights, predictions.classes)
    if metrics["cutflow"]:
        figures["cutflow"] = distributions.cutflow(metrics["cutflow"], metrics["classes"])
    return figures
