"""Results as the jobs leave them below the base, with as little in them as the pages show."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CLASSES = ["qcd", "ttbar", "wjets"]


def metrics(name: str, auc: float = 0.9, models: Iterable[str] = ("hlf",), **more: Any) -> dict[str, Any]:
    """Content of a report's ``metrics.json``, as large as a true one."""
    points = [{"target": 0.9, "threshold": 0.2, "true_positive_rate": 0.9, "false_positive_rate": 0.02, "error": 0.1}]
    model = {
        "auc": {sample: {"value": auc, "error": 0.002} for sample in CLASSES},
        "accuracy": {"value": 0.8, "error": 0.01},
        "working_points": {sample: 3 * points for sample in CLASSES},
        "run": "d1d7be185915ca63",
        "history": {"validation_loss": [1.0, 0.5, 0.4]},
    }
    return {
        "report": name,
        "dataset": f"dataset-of-{name}",
        "classes": CLASSES,
        "models": dict.fromkeys(models, model),
        "missing": [],
        "configuration": {"dataset": {"partitions": ["2026-01-01"]}, "training": {"epochs": 3}},
        "code_versions": {"evaluation": "v1"},
        **more,
    }


def write_report(base: Path, content: Mapping[str, Any], page: str = "<h1>report</h1>") -> Path:
    """Write a report and return its folder."""
    folder = base / "reports" / content["report"]
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(content, indent=1))
    (folder / "report.html").write_text(page)
    return folder


def write_version(base: Path, number: int, name: str = "topology", auc: float = 0.9, **more: Any) -> None:
    """Write a version of the registry, of a report ``r``."""
    model = metrics("r", auc=auc)["models"]["hlf"]
    content = {"label": "hlf", "architecture": "hlf", "classes": CLASSES, "thresholds": model.pop("working_points")}
    content |= {
        "metrics": model,
        "lineage": {"datasets/x": "0a", "models/hlf/d1d7be185915ca63": "1b", "reports/r": "2c"},
    }
    _write_record(base / "registry" / name / "versions", number, {**content, **more})


def write_act(base: Path, number: int, version: int, name: str = "topology", **more: Any) -> None:
    """Write an act of publication."""
    content = {"version": version, "action": "publish", "who": "ada", "when": "2026-01-02T03:04:05.6+00:00", "why": "x"}
    _write_record(base / "registry" / name / "published", number, {**content, "order": None, **more})


def _write_record(folder: Path, number: int, content: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number:06d}.json").write_text(json.dumps(content, indent=1))


def unit(source: str, counts: Mapping[str, int], checksum: str = "0a0a0a0a", size: int = 1000) -> dict[str, Any]:
    """A unit of a manifest."""
    file = {"path": f"{source}.parquet", "bytes": size, "checksum": checksum}
    content = {"source": source, "source_bytes": 5000, "source_checksum": checksum, "entry_start": 0, "entry_stop": 10}
    return {**content, "counts": dict(counts), "weights": {}, "outputs": [file], "notes": []}


def write_manifest(folder: Path, stage: str, units: Iterable[Mapping[str, Any]], number: int = 1, **more: Any) -> None:
    """Write a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"stage": stage, "config_hash": "0123456789abcdef", "config": {"jet_pt_min": 30.0}, "code": 3}
    content |= {"inputs": {}, "units": list(units), "quarantined": [], "notes": [], "extra": {}, "code_version": "v1"}
    (folder / f"manifest-{number:06d}.json").write_text(json.dumps({**content, **more}, indent=1))


def write_day(base: Path, day: str, samples: Iterable[str] = CLASSES, files: int = 1, **of_selection: Any) -> None:
    """Write what ingest and select leave of a day."""
    sources = [f"{sample}/{day}/{number}.root" for sample in samples for number in range(files)]
    ingested = [unit(source, {"events": 10}, size=0) for source in sources]
    counts = {"events": 10, "lepton_pt": 6, "isolated_lepton": 4}
    write_manifest(base / "events" / day, "ingest", ingested)
    write_manifest(base / "selected" / day, "select", [unit(source, counts) for source in sources], **of_selection)
