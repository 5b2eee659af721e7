"""What a finished run publishes: model, learning curves and figures, and the manifest that makes it complete.

Beside them lies what people look at or serve. No manifest lists that: it differs each time, or is a copy.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from toposieve.code_numbers import CODE_NUMBERS
from toposieve.io.content_folders import upload
from toposieve.io.manifests import Manifest, OutputFile, Unit
from toposieve.io.publication import TIMING_NAME, Publication, is_up_to_date
from toposieve.io.store import Key
from toposieve.training.architectures import build_model
from toposieve.training.export import save_for_serving, save_standard
from toposieve.training.loop import Task, Trained, best_epoch
from toposieve.training.runs import (
    HISTORY_FILE,
    METRICS_FILE,
    MODEL_FILE,
    SAVED_MODEL_DIRECTORY,
    SAVED_MODEL_FILE,
    copy_metrics,
    model_code,
    results_of,
)
from toposieve.version import code_version


def publish(task: Task, trained: Trained) -> None:
    """Write the results beside the checkpoints, then the manifest, then what people look at.

    Raises:
        ConflictError: Another process published the same run meanwhile.
    """
    with Publication(task.run_directory) as publication, TemporaryDirectory(prefix="toposieve-") as scratch:
        _write_results(Path(scratch), task, trained)
        files = upload(Path(scratch), (MODEL_FILE, HISTORY_FILE, METRICS_FILE), task.run_directory)
        manifest = _manifest(task, trained, files)
        if not is_up_to_date(publication.previous, manifest):
            manifest = publication.publish(manifest)
        copy_metrics(task.run_directory, manifest)
        write_saved_model(task.run_directory, manifest)
        (task.run_directory / TIMING_NAME).write_text(_json(_timing(task, trained)))


def write_saved_model(directory: Key, manifest: Manifest) -> None:
    """Write a finished run's model as a SavedModel too: whoever finds :data:`SAVED_MODEL_FILE` finds all of it."""
    folder, model = directory / SAVED_MODEL_DIRECTORY, directory / results_of(manifest)[MODEL_FILE].path
    with model.fetch() as file, TemporaryDirectory(prefix="toposieve-") as scratch:
        save_for_serving(Path(scratch), file)
        parts = [path for path in Path(scratch).rglob("*") if path.is_file()]
        (folder / SAVED_MODEL_FILE).delete()
        for part in sorted(parts, key=lambda path: path.name == SAVED_MODEL_FILE):
            with (folder / part.relative_to(scratch).as_posix()).create() as path:
                shutil.copyfile(part, path)


def _write_results(directory: Path, task: Task, trained: Trained) -> None:
    config = task.config.model_copy(update={"precision": "float32"})
    model = build_model(config, len(task.dataset.classes))  # outside the strategy: plain variables
    model.set_weights(trained.weights)
    save_standard(directory / MODEL_FILE, model, task.dataset.scaling)
    (directory / HISTORY_FILE).write_text(_json(_history(trained)))
    (directory / METRICS_FILE).write_text(_json(_metrics(task, trained, model.count_params())))


def _history(trained: Trained) -> dict[str, list[float]]:
    epochs = trained.progress.history
    return {name: [epoch[name] for epoch in epochs] for name in epochs[0]}


def _metrics(task: Task, trained: Trained, parameters: int) -> dict[str, Any]:
    best = best_epoch(trained.progress)
    return {
        "model": task.config.model,
        "parameters": parameters,
        "best_epoch": best + 1,
        "epochs": trained.progress.epoch,
        **trained.progress.history[best],
        "train_events": task.dataset.train.events,
        "validation_events": task.dataset.validation.events,
    }


def _timing(task: Task, trained: Trained) -> dict[str, Any]:
    progress = trained.progress
    seconds = sum(progress.epoch_seconds)
    events = progress.epoch * task.dataset.train.events
    return {
        "seconds": seconds,
        "events": events,
        "events_per_second": events / seconds,
        "epoch_seconds": progress.epoch_seconds,
        "workers": task.gang.workers,
    }


def _manifest(task: Task, trained: Trained, files: tuple[OutputFile, ...]) -> Manifest:
    directory, fingerprint = task.dataset.directory, task.dataset.fingerprint
    name = f"{directory.parent.name}/{directory.name}"
    events = {"train": task.dataset.train.events, "validation": task.dataset.validation.events}
    unit = Unit(
        source=name,
        source_checksum=fingerprint,
        entry_start=0,
        entry_stop=sum(events.values()),
        counts=events,
        outputs=files,
    )
    return Manifest(
        stage="training",
        config_hash=task.config.hash,
        config=task.config.model_dump(mode="json"),
        code=CODE_NUMBERS["train"],
        inputs={name: fingerprint},
        units=(unit,),
        extra={"layers": list(trained.layers), "model_code": model_code()},
        code_version=code_version(),
    )


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"
