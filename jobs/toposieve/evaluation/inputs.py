"""What a report is made from: a dataset's test split, the models' runs, and the times of every stage behind them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toposieve import schema
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io import datasets, manifests
from toposieve.preprocessing import Scaling
from toposieve.training import runs
from toposieve.training.shards import Shard, Split

TEST_SPLIT = schema.SPLITS[-1]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestData:
    """The test split of a dataset, every file checked."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    directory: Path
    manifest: manifests.Manifest
    split: Split
    """All test shards as one stream, in order."""
    counts: dict[str, int]
    """Sample → events that the manifest promises."""
    scaling: Scaling


@dataclass(frozen=True)
class ModelRun:
    """A finished training run."""

    directory: Path
    config: TrainingConfig
    manifest: manifests.Manifest
    model_file: Path
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


def open_test_data(directory: Path) -> TestData:
    """Open a dataset and check its test shards and scaling against its manifest.

    Raises:
        InvalidInputError: There is no such dataset, it has no test events, or a file is missing or altered.
    """
    manifest = manifests.read_manifest_if_any(directory)
    if manifest is None:
        raise InvalidInputError(f"{directory} holds no dataset: run prepare_features.py first, or check --dataset")
    units = [unit for unit in manifest.units if unit.source.partition("/")[0] == TEST_SPLIT]
    shards = tuple(
        Shard(manifests.verify_file(directory, file), unit.counts["events"], file)
        for unit in units
        for file in unit.outputs
        if file.path.endswith(".tfrecord")
    )
    split = Split(TEST_SPLIT, shards, streams=1)
    if not split.events:
        raise InvalidInputError(f"{directory} has no test events: prepare it from more events")
    counts = {sample: sum(unit.counts.get(sample, 0) for unit in units) for sample in schema.SAMPLES}
    return TestData(directory, manifest, split, counts, _read_scaling(directory, manifest))


def _read_scaling(directory: Path, manifest: manifests.Manifest) -> Scaling:
    for file in manifest.outputs():
        if file.path == datasets.SCALING_NAME:
            return Scaling.from_json(manifests.verify_file(directory, file).read_text())
    raise InvalidInputError(f"{directory}: its manifest lists no {datasets.SCALING_NAME}; prepare the dataset again")


def open_run(base: Path, dataset: Path, config: TrainingConfig) -> ModelRun:
    """Find the run of a model that was trained on a dataset with a configuration.

    Raises:
        InvalidInputError: It was not trained, did not finish, or a file of it is missing or altered; the message
            gives the command that trains it.
    """
    directory = runs.run_directory(base, dataset, config)
    manifest = manifests.read_manifest_if_any(directory)
    if manifest is None:
        raise InvalidInputError(f"no trained {config.model} in {directory}: {_training_command(base, dataset, config)}")
    files = {file.path: manifests.verify_file(directory, file) for file in manifest.outputs()}
    history, metrics = (json.loads(files[name].read_text()) for name in (runs.HISTORY_FILE, runs.METRICS_FILE))
    return ModelRun(directory, config, manifest, files[runs.MODEL_FILE], history, metrics)


def _training_command(base: Path, dataset: Path, config: TrainingConfig) -> str:
    changed = config.model_dump(mode="json", exclude_defaults=True) | {"model": config.model}
    return (
        f"train it with: python jobs/train.py --base {base} --dataset {dataset.name} --config '{json.dumps(changed)}'"
    )


def input_fingerprints(base: Path, data: TestData, models: Sequence[ModelRun]) -> dict[str, str]:
    """Folder of every manifest that the report depends on, relative to the base → the manifest's fingerprint."""
    sources: list[TestData | ModelRun] = [data, *models]
    return {each.directory.relative_to(base).as_posix(): manifests.fingerprint(each.manifest) for each in sources}


def stage_times(base: Path, data: TestData, models: Sequence[ModelRun]) -> list[StageTime]:
    """Times of the dataset, of everything upstream of it that is still there, and of the models' training, in order."""
    upstream = list(_upstream(base, data.manifest))
    raw = {base / "raw" / Path(unit.source).parent for _, manifest in upstream for unit in manifest.units}
    directories = [*sorted(raw), *(directory for directory, _ in reversed(upstream)), data.directory]
    directories += [run.directory for run in models]
    times = (_read_time(base, directory) for directory in directories)
    return [time for time in times if time is not None]


def _upstream(base: Path, manifest: manifests.Manifest) -> Iterator[tuple[Path, manifests.Manifest]]:
    """Folders and manifests behind a manifest, nearest first; what was deleted to save space is left out."""
    level = [manifest]
    while level:
        names = sorted({name for each in level for name in each.inputs})
        found = [(base / name, manifests.read_manifest_if_any(base / name)) for name in reversed(names)]
        present = [(directory, each) for directory, each in found if each is not None]
        yield from present
        level = [each for _, each in present]


def _read_time(base: Path, directory: Path) -> StageTime | None:
    path = directory / manifests.TIMING_NAME
    try:
        content = json.loads(path.read_text())
        name = directory.relative_to(base)
        return StageTime(name.parts[0], name.as_posix(), float(content["seconds"]), content.get("events"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s is not a time (%s); the report leaves it out", path, error)
        return None
