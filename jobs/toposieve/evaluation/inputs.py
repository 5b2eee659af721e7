"""What a report is made from: a dataset's test split, the models' runs, and the times of every stage behind them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from toposieve.code_numbers import CODE_NUMBERS
from toposieve.errors import InvalidInputError
from toposieve.io import manifests
from toposieve.io.datasets import IMPORT_STAGE, SCALING_NAME
from toposieve.io.publication import TIMING_NAME
from toposieve.io.scores import SCORED_SPLITS, scores_folder
from toposieve.io.store import Key
from toposieve.models import ARCHITECTURES
from toposieve.preprocessing import Scaling
from toposieve.training import runs
from toposieve.training.shards import Split, open_split, read_listed, read_scaling

VALIDATION_SPLIT, TEST_SPLIT = SCORED_SPLITS

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

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the dataset, in the order of their labels."""
        return self.split.classes


@dataclass(frozen=True)
class ModelRun:
    """A finished training run."""

    label: str
    """What the report calls it."""
    directory: Key
    """``{base}/models/{model}/{run}``."""
    scores: Key
    """Folder of its scores of the dataset."""
    manifest: manifests.Manifest
    history: dict[str, list[float]]
    """Empty where nothing is trained in epochs."""
    metrics: dict[str, Any]

    @property
    def model(self) -> str:
        """Kind of model."""
        return self.directory.parent.name

    @property
    def model_file(self) -> Key | None:
        """A network's model; other classifiers have none that evaluation could run."""
        file = runs.results_of(self.manifest).get(runs.MODEL_FILE)
        return None if file is None else self.directory / file.path

    @property
    def model_bytes(self) -> int:
        """Size of the model, of whatever kind: all files but those that tell of its training."""
        told = (runs.METRICS_FILE, runs.HISTORY_FILE)
        return sum(file.bytes for name, file in runs.results_of(self.manifest).items() if name not in told)


@dataclass(frozen=True)
class OtherData:
    """Another dataset, of varied events or of another simulation, that a report compares its own with."""

    name: str
    """What the report calls it."""
    data: TestData
    runs: Sequence[ModelRun]
    """Those of the report that have scores of it, with these."""


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
    split = open_split(directory, manifest, name, entries)
    units = [unit for unit in manifest.units if unit.source.partition("/")[0] == name]
    counts = {sample: sum(unit.counts.get(sample, 0) for unit in units) for sample in split.classes}
    scaling = read_scaling(directory, manifest)
    if scaling is None and manifest.stage != IMPORT_STAGE:
        raise InvalidInputError(f"{directory}: its manifest lists no {SCALING_NAME}; prepare the dataset again")
    return TestData(directory, manifest, split, counts, scaling)


def open_run(base: Key, data: TestData, label: str, name: str) -> ModelRun:
    """Open a finished run of any classifier.

    Args:
        base: Where all data lives.
        data: What it is to be evaluated on.
        label: What the report is to call it.
        name: Its folder below the base, ``models/{model}/{run}``.

    Raises:
        InvalidInputError: It did not finish, a file of it is missing or altered, or it is of another dataset.
    """
    directory = base / name
    manifest = manifests.read_manifest_if_any(directory)
    if manifest is None:
        raise InvalidInputError(f"{label}: {directory} holds no finished run: train it, or check --labels")
    if manifests.fingerprint(data.manifest) not in manifest.inputs.values():
        trained_on = ", ".join(manifest.inputs) or "another dataset"
        raise InvalidInputError(
            f"{label}: {directory} was trained on {trained_on}, and {data.directory} is not that any more, or another: "
            "train on it, or check --dataset and --labels"
        )
    _warn_of_other_code(label, directory, manifest)
    files = runs.results_of(manifest)
    try:
        metrics = json.loads(read_listed(directory, files[runs.METRICS_FILE]))
        history = json.loads(read_listed(directory, files[runs.HISTORY_FILE])) if runs.HISTORY_FILE in files else {}
    except (KeyError, ValueError) as error:
        raise InvalidInputError(
            f"{label}: {directory} holds no results of a training ({error}): train it again"
        ) from None
    for file in manifest.outputs():
        manifests.check_listed(directory, file)
    return ModelRun(label, directory, scores_folder(base, data.directory.name, directory), manifest, history, metrics)


def _warn_of_other_code(label: str, directory: Key, manifest: manifests.Manifest) -> None:
    """Say so where a run was made with other code than there is now: that may be what it is compared for."""
    stage = manifest.stage if manifest.stage in CODE_NUMBERS else "train"  # whose manifests call it training
    now = CODE_NUMBERS[stage]
    if manifest.code != now:
        logger.warning(
            "%s: %s was made with code %d of %s, which is %d now: train it again to have it as it would be made today",
            label,
            directory,
            manifest.code,
            stage,
            now,
        )


def open_runs(base: Key, data: TestData, names: Mapping[str, str], kept: Mapping[str, str]) -> list[ModelRun]:
    """Open runs, in the order of models and labels.

    Args:
        base: Where all data lives.
        data: What they are to be evaluated on.
        names: Label → folder of the run below the base.
        kept: The same of those that a report there has, which are left out where they are no more what they were.

    Raises:
        InvalidInputError: One of ``names`` cannot be used.
    """
    found = [open_run(base, data, label, name) for label, name in names.items()]
    for label, name in kept.items():
        if label not in names:
            try:
                found.append(open_run(base, data, label, name))
            except InvalidInputError as error:
                logger.warning("no longer in the report: %s", error)
    known = list(ARCHITECTURES)
    return sorted(found, key=lambda run: (known.index(run.model) if run.model in known else len(known), run.label))


def input_fingerprints(
    base: Key,
    data: TestData,
    models: Sequence[ModelRun],
    missing: Iterable[str] = (),
    others: Iterable[OtherData] = (),
) -> dict[str, str]:
    """Folder of every manifest that the report depends on, relative to the base → the manifest's fingerprint.

    Of a run and of other data their names too, which the report shows; of a label that is missing, nothing: the report
    says so.
    """
    absent = {f"{runs.MODELS_DIRECTORY} {label}": "" for label in missing}
    labelled = {f"{run.label}={run.directory.relative_to(base)}": manifests.fingerprint(run.manifest) for run in models}
    folders = [data.directory, *(run.scores for run in models)]
    read = {each.relative_to(base): manifests.fingerprint(manifests.read_manifest(each)) for each in folders}
    compared = {
        f"{other.name}={folder.relative_to(base)}": manifests.fingerprint(manifests.read_manifest(folder))
        for other in others
        for folder in (other.data.directory, *(run.scores for run in other.runs))
    }
    return absent | labelled | read | compared


def stage_times(base: Key, data: TestData, models: Sequence[ModelRun], report: Key) -> list[StageTime]:
    """Times of the dataset and all upstream of it that is still there, of training, scoring and a report, in order."""
    upstream = list(_upstream(base, data.manifest))
    raw = {base / "raw" / str(PurePosixPath(unit.source).parent) for _, manifest in upstream for unit in manifest.units}
    directories = [*sorted(raw), *(directory for directory, _ in reversed(upstream)), data.directory]
    directories += [directory for run in models for directory in (run.directory, run.scores)]
    directories.append(report)
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
