"""A base with a dataset, runs and reports as small as the registry bears: it reads manifests, and copies files."""

import json

from toposieve.io.manifests import Manifest, OutputFile, Unit, describe_file, fingerprint, manifest_name
from toposieve.io.store import root_key

CLASSES = ("qcd", "ttbar", "wjets")


def passing(rate):
    return {"false_positive_rate": rate, "error": 0.01, "rejection": 1 / rate}


def model_metrics(run, *, auc=0.95, rate=0.05, hertz=50.0, high=0.06, low=0.04):
    """What a report says of a model, in the parts that the registry looks at."""
    return {
        "run": run,
        "auc": {name: {"value": auc, "error": 0.003} for name in CLASSES},
        "accuracy": {"value": 0.9, "error": 0.01},
        "working_points": {
            "ttbar": [
                {
                    "target": 0.95,
                    "threshold": 0.3,
                    "background": {"qcd": passing(rate), "wjets": passing(2 * rate)},
                    "rate": {"total": {"value": hertz, "error": 1.0}},
                }
            ]
        },
        "stability": {
            "ttbar": {
                quantity: {"qcd": {"share": [rate, *nothing], "low": [low, *nothing], "high": [high, *nothing]}}
                for quantity, nothing in (("nJets", [None] * 6), ("day", [None]))
            }
        },
        "history": {"loss": [1.0]},
    }


def write_folder(folder, stage, files, *, inputs=None, config=None):
    """Publish a folder with these files (name → text) and return its fingerprint."""
    outputs = []
    for name, text in files.items():
        (folder / f"content-{stage}/{name}").write_text(text)
        with (folder / f"content-{stage}/{name}").fetch() as path:
            outputs.append(OutputFile(**describe_file(path, f"content-{stage}/{name}").model_dump()))
    unit = Unit(source="x", source_checksum="", entry_start=0, entry_stop=1, counts={}, outputs=tuple(outputs))
    manifest = Manifest(
        stage=stage,
        config_hash="0",
        config=config or {"seed": 1},
        code=1,
        inputs=inputs or {},
        units=(unit,),
        code_version="x",
    )
    (folder / manifest_name(1)).write_bytes(manifest.to_bytes())
    return fingerprint(manifest)


def write_base(path, **models):
    """A dataset ``d``, a run of each architecture and a report ``r`` on them.

    Args:
        path: The base.
        models: Architecture → arguments of :func:`model_metrics`.
    """
    base = root_key("--base", str(path))
    inputs = {"datasets/d": write_folder(base / "datasets" / "d", "preparation", {"scaling.json": "{}"})}
    for name in models:
        files = {"model.keras": f"weights of {name}", "history.json": "{}"}
        data = {"datasets/d": inputs["datasets/d"]}
        inputs[f"{name}=models/{name}/run-{name}"] = write_folder(
            base / "models" / name / f"run-{name}", "training", files, inputs=data
        )
    described = {name: model_metrics(f"run-{name}", **values) for name, values in models.items()}
    metrics = {"dataset": "d", "classes": CLASSES, "models": described}
    write_folder(base / "reports" / "r", "evaluate", {"metrics.json": json.dumps(metrics)}, inputs=inputs)
    return base
