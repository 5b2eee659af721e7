"""What a report is made from: a dataset's test split, the models' runs, and the times of every stage behind them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from toposieve import schema
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io import manifests
from toposieve.io.datasets import IMPORT_STAGE, SCALING_NAME
from toposieve.io.publication import TIMING_NAME
from toposieve.io.store import Key
from toposieve.preprocessing import Scaling
from toposieve.training import runs
from toposieve.training.shards import Split, listed_shards, read_listed, read_scaling

VALIDATION_SPLIT, TEST_SPLIT = schema.SPLITS[1:]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestData:
    """The test split of a dataset, every file there."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    directory: Key
    manifest: manifests.Manifest
    split: Split
    """All test shards, in order."""
    counts: dict[str, int]
    """Sample → events that the manifest promises."""
    scaling: Scaling | None
    """None where nobody knows: the dataset was imported."""


@dataclass(frozen=True)
class ModelRun:
    """A finished training run."""

    directory: Key
    config: TrainingConfig
    manifest: manifests.Manifest
    model_file: Key
    history: dict[str, list[float]]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class StageTime:
    """How long the run that made an output took."""

    stage: str
    output: str
    """Its folder, relative to the base."""
    seconds: float
    events: int | None


def open_test_data(directory: Key, name: str = TEST_SPLIT) -> TestData:
    """Open a split of a dataset: its shards, which are checked when they are read, and its scaling.

    Raises:
        InvalidInputError: There is no such dataset, the split has no events, or a file is missing or altered.
    """
    entries = directory.list()
    manifest = manifests.read_manifest_if_any(directory)
    if manifest is None:
        raise InvalidInputError(f"{directory} holds no dataset: run prepare_features.py first, or check --dataset")
    units = [unit for unit in manifest.units if unit.source.partition("/")[0] == name]
    split = Split(name, listed_shards(directory, manifest, name, entries))
    if not split.events:
        raise InvalidInputError(f"{directory} has no {name} events: prepare it from more events")
    counts = {sample: sum(unit.counts.get(sample, 0) for unit in units) for sample in schema.SAMPLES}
    scaling = read_scaling(directory, manifest)
    if scaling is None and manifest.stage != IMPORT_STAGE:
        raise InvalidInputError(f"{directory}: its manifest lists no {SCALING_NAME}; prepare the dataset again")
    return TestData(directory, manifest, split, counts, scaling)


def open_run(base: Key, data: TestData, config: TrainingConfig) -> ModelRun:
    """Find the run of a model that was trained on a dataset with a configuration.

    Raises:
        InvalidInputError: It was not trained, did not finish, or a file of it is missing or altered; the message
            gives the command that trains it.
    """
    directory = runs.run_directory(base, manifests.fingerprint(data.manifest), config)
    manifest = runs.finished_run(directory)
    command = _training_command(base, data.directory, config)
    if manifest is None:
        raise InvalidInputError(f"no trained {config.model} in {directory}: {command}")
    files = runs.results_of(manifest)
    try:
        history, metrics = (
            json.loads(read_listed(directory, files[name])) for name in (runs.HISTORY_FILE, runs.METRICS_FILE)
        )
        return ModelRun(directory, config, manifest, directory / files[runs.MODEL_FILE].path, history, metrics)
    except (KeyError, ValueError) as error:
        raise InvalidInputError(f"{directory} holds no results of a training ({error}): {command}") from None


def open_runs(base: Key, data: TestData, configs: Sequence[TrainingConfig]) -> tuple[list[ModelRun], dict[str, str]]:
    """Find the runs of several models.

    Returns:
        The runs that are there, in order, and model → what is wrong with that of each other one.
    """
    found: list[ModelRun] = []
    problems: dict[str, str] = {}
    for config in configs:
        try:
            found.append(open_run(base, data, config))
        except InvalidInputError as error:
            problems[config.model] = str(error)
    return found, problems


def _training_command(base: Key, dataset: Key, config: TrainingConfig) -> str:
    changed = config.model_dump(mode="json", exclude_defaults=True) | {"model": config.model}
    return (
        f"train it with: python jobs/train.py --base {base} --dataset {dataset.name} --config '{json.dumps(changed)}'"
    )


def cross_sections(dataset: manifests.Manifest) -> dict[str, tuple[float, float] | None]:
    """Sample → cross-section of its selected events and its error, pb; None where nobody knows."""
    known = {sample: dataset.extra.get("cross_sections", {}).get(sample) for sample in schema.SAMPLES}
    return {sample: (each["pb"], each["error"]) if each else None for sample, each in known.items()}


def input_fingerprints(
    base: Key, data: TestData, models: Sequence[ModelRun], missing: Iterable[str] = ()
) -> dict[str, str]:
    """Folder of every manifest that the report depends on, relative to the base → the manifest's fingerprint.

    Of a model that is missing, its folder → nothing: the report says so.
    """
    sources: list[TestData | ModelRun] = [data, *models]
    absent = {f"{runs.MODELS_DIRECTORY}/{model}": "" for model in missing}
    return absent | {each.directory.relative_to(base): manifests.fingerprint(each.manifest) for each in sources}


def stage_times(base: Key, data: TestData, models: Sequence[ModelRun]) -> list[StageTime]:
    """Times of the dataset, of everything upstream of it that is still there, and of the models' training, in order."""
    upstream = list(_upstream(base, data.manifest))
    raw = {base / "raw" / str(PurePosixPath(unit.source).parent) for _, manifest in upstream for unit in manifest.units}
    directories = [*sorted(raw), *(directory for directory, _ in reversed(upstream)), data.directory]
    directories += [run.directory for run in models]
    times = (_read_time(base, directory) for directory in directories)
    return [time for time in times if time is not None]


def _upstream(base: Key, manifest: manifests.Manifest) -> Iterator[tuple[Key, manifests.Manifest]]:
    """Folders and manifests behind a manifest, nearest first; what was deleted to save space is left out."""
    level = [manifest]
    while level:
        names = sorted({name for each in level for name in each.inputs})
        found = [(base / name, manifests.read_manifest_if_any(base / name)) for name in reversed(names)]
        present = [(directory, each) for directory, each in found if each is not None]
        yield from present
        level = [each for _, each in present]


def report_times(base: Key, directory: Key, scores: Sequence[Key]) -> list[StageTime]:
    """Times of a report itself: of scoring with each model, where its scores lie, and of all of it."""
    times = (_read_time(base, each) for each in (*scores, directory))
    return [time for time in times if time is not None]


def _read_time(base: Key, directory: Key) -> StageTime | None:
    key, name = directory / TIMING_NAME, directory.relative_to(base)
    try:
        content = json.loads(key.read_text())
        return StageTime(name.partition("/")[0], name, float(content["seconds"]), content.get("events"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s is not a time (%s); the report leaves it out", key, error)
        return None
