"""Which models were put forward, which one is published, and why: numbered records, made once and never replaced.

Under ``{base}/registry/{name}``: ``versions/000001.json`` says what a version is, ``files/`` holds its files in folders
named by their content, and ``published/000001.json`` says which version was published, by whom, when and why; the
highest number is the truth. Dates are in the latter alone, so that the same model is the same version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.content_folders import upload
from toposieve.io.datasets import SCALING_NAME
from toposieve.io.manifests import (
    Manifest,
    OutputFile,
    check_listed,
    fingerprint,
    read_finished,
    read_manifest,
    read_manifest_if_any,
)
from toposieve.io.store import Key
from toposieve.models import ARCHITECTURES, HIGH_LEVEL, PARTICLES

REGISTRY_DIRECTORY = "registry"
VERSIONS, PUBLISHED = "versions", "published"
RECORD_NAME = re.compile(r"(\d{6,})\.json")
METRICS_NAME = "metrics.json"
FEATURES = {HIGH_LEVEL: schema.HIGH_LEVEL_FEATURES, PARTICLES: schema.LOW_LEVEL_FEATURES}
"""Input of a model → its features, in order."""

Action = Literal["publish", "rollback"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_bytes(self) -> bytes:
        return self.model_dump_json(indent=1).encode() + b"\n"


class Feature(_Record):
    """One number that a model takes."""

    name: str
    unit: str


class Version(_Record):
    """A model that may be published, with all that it takes to use it and to say where it is from."""

    label: str
    """What its report calls it."""
    architecture: str
    files: tuple[OutputFile, ...]
    """The run's files and the dataset's scaling, by their paths below the registry's folder of this name."""
    classes: tuple[str, ...]
    """In the order of the scores."""
    features: dict[str, tuple[Feature, ...]]
    """Input → its features in order."""
    thresholds: dict[str, list[dict[str, Any]]]
    """Class → working points, as the report has them."""
    metrics: dict[str, Any]
    """All else that the report says of the model."""
    lineage: dict[str, str]
    """Folders of report, dataset and run, and of all that the report is made of → fingerprints of their manifests."""
    configuration: dict[str, dict[str, Any]]
    """Stage → configuration, seeds among them, and the cuts of the selection."""
    code: dict[str, int]
    """Stage → number of its code."""


class Pointer(_Record):
    """One act of publication."""

    version: int
    action: Action
    who: str
    when: str
    """UTC, as in ISO 8601."""
    why: str
    order: str | None = None
    """What asked for it, such as a run of Airflow, by its name."""


class RunGoneError(InvalidInputError):
    """The run that a version is of is not there as it was."""


class Published(NamedTuple):
    """A pointer and its number."""

    number: int
    pointer: Pointer


RecordT = TypeVar("RecordT", bound=_Record)


def registry_folder(base: Key, name: str) -> Key:
    """``{base}/registry/{name}``."""
    return base / REGISTRY_DIRECTORY / name


def register(base: Key, name: str, report: str, label: str | None = None) -> int:
    """Make a model of a report a version, with copies of its files; the same model stays the version that it is.

    Args:
        base: Where all data lies.
        name: What the model is published as, whichever its architecture.
        report: Name of the report.
        label: What the report calls the model; None for that with the largest areas under its ROC curves.

    Returns:
        The version's number.

    Raises:
        InvalidInputError: The report has no such model, or the run or the dataset is another one by now.
    """
    folder = registry_folder(base, name)
    version, looked_at = _describe(base, folder, report, label), 0
    while True:
        known = _numbers(folder / VERSIONS)
        for number in reversed(known):  # one at a time, the newest first: together they may be large
            if number > looked_at and read_version(folder, number) == version:
                return number
        looked_at = (known or [0])[-1]
        if _append(folder / VERSIONS, looked_at + 1, version):
            return looked_at + 1


def publish(
    folder: Key, version: int, who: str, why: str, *, after: int | None = None, order: str | None = None
) -> int:
    """Make a version the published one.

    Args:
        folder: The registry's folder of a name.
        version: Its number.
        who: Who decides.
        why: The reason.
        after: Number of the publication that this one was compared with; 0 for none.
        order: What asks for it.

    Returns:
        The number of the publication.

    Raises:
        InvalidInputError: The version or a file of it is gone, or somebody else has published meanwhile.
    """
    pointer = Pointer(version=version, action="publish", who=who, when=_now(), why=why, order=order)
    return _point(folder, pointer, after)


def rollback(folder: Key, who: str, why: str, *, version: int | None = None, order: str | None = None) -> int:
    """Publish again what was published before the present version, or the version given; else as :func:`publish`.

    What was left by going back does not come again: after 1, 2 and 3, back to 2 and back again is 1.

    Args:
        folder: The registry's folder of a name.
        who: Who decides.
        why: The reason.
        version: Number of a version; None for the one before.
        order: What asks for it; when it asks again, nothing changes.

    Returns:
        The number of the publication, of the first one by this order.

    Raises:
        InvalidInputError: There is none, it is gone, or somebody else has published meanwhile.
    """
    past = history(folder)
    for number, pointer in past:
        if order is not None and pointer.order == order:
            return number
    standing = _standing(past)
    earlier = {each.pointer.version for each in past} - set(standing[-1:])
    known = ", ".join(map(str, sorted(earlier)))
    if not earlier:
        raise InvalidInputError(f"{folder / PUBLISHED}: nothing was published before; publish another version instead")
    if version is None and len(standing) < 2:
        raise InvalidInputError(
            f"{folder / PUBLISHED}: nothing was published before but what was left by going back: give --version "
            f"({known})"
        )
    chosen = standing[-2] if version is None else version
    if chosen not in earlier:
        raise InvalidInputError(f"{folder / PUBLISHED}: version {chosen} was not published before; choose of {known}")
    pointer = Pointer(version=chosen, action="rollback", who=who, when=_now(), why=why, order=order)
    return _point(folder, pointer, past[-1].number)


def _standing(past: Sequence[Published]) -> list[int]:
    """The published version, last, after those that it came after; without what was left by going back."""
    versions: list[int] = []
    for _, act in past:
        if act.action == "rollback" and act.version in versions:
            while versions[-1] != act.version:
                versions.pop()
        elif versions[-1:] != [act.version]:
            versions.append(act.version)
    return versions


def history(folder: Key) -> list[Published]:
    """Every act of publication, in order; the last one is the truth."""
    return [publication(folder, number) for number in _numbers(folder / PUBLISHED)]


def publication(folder: Key, number: int) -> Published:
    """An act of publication by its number.

    Raises:
        InvalidInputError: There is none.
    """
    return Published(number, _read(folder / PUBLISHED, number, Pointer))


def published(folder: Key) -> Published | None:
    """The last act of publication."""
    number = _last(folder / PUBLISHED)
    return publication(folder, number) if number else None


def versions(folder: Key) -> dict[int, Version]:
    """Every version, by its number."""
    return {number: read_version(folder, number) for number in _numbers(folder / VERSIONS)}


def newest_version(folder: Key) -> int:
    """Number of the newest version, which is not read; 0 where there is none."""
    return _last(folder / VERSIONS)


def read_version(folder: Key, number: int) -> Version:
    """A version by its number.

    Raises:
        InvalidInputError: There is none.
    """
    return _read(folder / VERSIONS, number, Version)


def run_of_version(base: Key, name: str, number: int) -> str:
    """The run that a version is of, below the base.

    Args:
        base: Where all data lives.
        name: What models are published as.
        number: Of the version.

    Raises:
        InvalidInputError: There is no such version.
        RunGoneError: Its run is gone, or another one by now.
    """
    folder = registry_folder(base, name)
    version = read_version(folder, number)
    run = f"models/{version.architecture}/{version.metrics['run'].rpartition('/')[2]}"
    manifest = read_manifest_if_any(base / run)
    if manifest is None or fingerprint(manifest) != version.lineage.get(run):
        raise RunGoneError(
            f"version {number} of {folder} is of {base / run}, which is gone or another one by now: register a model "
            "that is there"
        )
    return run


def open_published(folder: Key) -> tuple[int, Version, dict[str, Key]]:
    """The published version: its number, what it is, and its files by their plain names.

    Raises:
        InvalidInputError: Nothing is published, a file is gone, or it takes other features than this project makes.
    """
    number = published_version(folder)
    version = read_version(folder, number)
    check_features(version, describe_features(tuple(version.features)))
    return number, version, {key.name: key for key in files_of(folder, version)}


def published_version(folder: Key) -> int:
    """Number of the published version.

    Raises:
        InvalidInputError: Nothing is published.
    """
    found = published(folder)
    if found is None:
        raise InvalidInputError(f"{folder} has nothing published: run publish_model.py publish first")
    return found.pointer.version


def describe_features(inputs: tuple[str, ...]) -> dict[str, tuple[Feature, ...]]:
    """The features of a model's inputs as this project makes them, with units, in order."""
    return {
        name: tuple(Feature(name=feature, unit=schema.UNITS[feature]) for feature in FEATURES[name]) for name in inputs
    }


def check_features(version: Version, given: dict[str, tuple[Feature, ...]]) -> None:
    """Refuse features that a version does not take.

    Args:
        version: What is to be fed.
        given: Input → features, in the order in which they come.

    Raises:
        InvalidInputError: One is missing, in another place or in another unit; the message names the first.
    """
    for name, wanted in version.features.items():
        found = given.get(name, ())
        if len(found) != len(wanted):
            raise InvalidInputError(
                f"{name}: {len(found)} features, but {version.label} takes {len(wanted)}: give these"
            )
        for place, (one, other) in enumerate(zip(wanted, found, strict=True)):
            if one != other:
                raise InvalidInputError(
                    f"{name}: feature {place} is {other.name} in {other.unit}, but {version.label} takes {one.name} in "
                    f"{one.unit} there: put the features into its order and units"
                )


# --- what a version is -----------------------------------------------------------------------------------------------


def _describe(base: Key, folder: Key, report: str, label: str | None) -> Version:
    reports = base / "reports" / report
    reported = read_manifest(reports)
    metrics = json.loads(_listed(reports, reported, METRICS_NAME).read_bytes())
    label = label or max(metrics["models"], key=lambda each: _area(metrics["models"][each]))
    model = metrics["models"].get(label)
    if model is None:
        raise InvalidInputError(f"{reports} has no model {label}: choose of {', '.join(metrics['models'])}")
    run = _upstream(base, reports, reported, "models", model["run"].rpartition("/")[2])
    trained = _unchanged(base, run, reported)
    dataset = _upstream(base, reports, reported, "datasets", metrics["dataset"])
    prepared = _unchanged(base, dataset, reported)
    architecture = run.split("/")[1]
    takes = ARCHITECTURES[architecture].inputs if architecture in ARCHITECTURES else (HIGH_LEVEL,)
    sources = [check_listed(base / run, file) for file in trained.outputs()]
    scaling = [check_listed(base / dataset, f) for f in prepared.outputs() if f.path.endswith(SCALING_NAME)]
    return Version(
        label=label,
        architecture=architecture,
        files=_copy([*sources, *scaling], folder),
        classes=tuple(metrics["classes"]),
        features=describe_features(takes),
        thresholds=model["working_points"],
        metrics={key: value for key, value in model.items() if key not in ("working_points", "history")},
        lineage={**_inputs(reported), reports.relative_to(base): fingerprint(reported), **trained.inputs},
        configuration=_selection(prepared) | {each.stage: each.config for each in (prepared, trained, reported)},
        code={each.stage: each.code for each in (prepared, trained, reported)},
    )


def _selection(prepared: Manifest) -> dict[str, dict[str, Any]]:
    """The cuts behind a dataset, by which features are made of raw events; nobody knows those of an imported one."""
    return {"selection": prepared.extra["selection"]} if "selection" in prepared.extra else {}


def _area(model: dict[str, Any]) -> float:
    return sum(auc["value"] or 0.0 for auc in model["auc"].values())


def _listed(folder: Key, manifest: Manifest, name: str) -> Key:
    for file in manifest.outputs():
        if file.path.rpartition("/")[2] == name:
            return check_listed(folder, file)
    raise InvalidInputError(f"{folder} lists no {name}: run the stage that writes it again")


def _upstream(base: Key, reports: Key, reported: Manifest, kind: str, name: str) -> str:
    """Folder, relative to the base, of an input of the report."""
    for folder in _inputs(reported):
        if folder.startswith(f"{kind}/") and folder.rpartition("/")[2] == name:
            return folder
    raise InvalidInputError(f"{reports} is not made of {base / kind}/.../{name}: evaluate again")


def _inputs(reported: Manifest) -> dict[str, str]:
    """Folder → fingerprint of what a report is made of; it lists runs as ``label=folder``."""
    return {name.rpartition("=")[2]: mark for name, mark in reported.inputs.items()}


def _unchanged(base: Key, folder: str, reported: Manifest) -> Manifest:
    manifest = read_manifest(base / folder)
    if fingerprint(manifest) != _inputs(reported)[folder]:
        raise InvalidInputError(f"{base / folder} was made anew since the report: evaluate again, then register")
    return manifest


def _copy(sources: list[Key], folder: Key) -> tuple[OutputFile, ...]:
    with TemporaryDirectory(prefix="toposieve-") as name:
        for source in sources:
            (Path(name) / source.name).write_bytes(source.read_bytes())
        files = upload(Path(name), sorted(source.name for source in sources), folder / "files")
    return tuple(file.model_copy(update={"path": f"files/{file.path}"}) for file in files)


def files_of(folder: Key, version: Version) -> list[Key]:
    """The files of a version.

    Raises:
        InvalidInputError: One is gone.
    """
    return [check_listed(folder, file) for file in version.files]


# --- numbered records ------------------------------------------------------------------------------------------------


def _point(folder: Key, pointer: Pointer, after: int | None) -> int:
    try:
        files_of(folder, read_version(folder, pointer.version))
    except InvalidInputError as error:
        raise InvalidInputError(f"version {pointer.version} cannot be published, for it is gone ({error})") from None
    last = _last(folder / PUBLISHED)
    number = (last if after is None else after) + 1
    if number > last + 1:
        raise InvalidInputError(f"{folder / PUBLISHED}: the last publication is {last}, not {after}: compare again")
    if not _append(folder / PUBLISHED, number, pointer):
        first = publication(folder, number).pointer
        if first == pointer.model_copy(update={"when": first.when}):  # a run that was killed has done it
            return number
        winner = publication(folder, _last(folder / PUBLISHED)).pointer
        raise InvalidInputError(
            f"{folder}: {winner.who} has published version {winner.version} meanwhile ({winner.why}): compare with "
            "that, and decide again"
        )
    return number


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _append(folder: Key, number: int, record: _Record) -> bool:
    """Take a number, if it is free; one that holds these very bytes is ours: the answer to our request was lost."""
    key, content = folder / _name(number), record.to_bytes()
    return key.create_if_absent(content) or read_finished(key) == content


def _read(folder: Key, number: int, kind: type[RecordT]) -> RecordT:
    key = folder / _name(number)
    try:
        return kind.model_validate_json(read_finished(key))
    except FileNotFoundError:
        known = ", ".join(map(str, _numbers(folder))) or "none"
        raise InvalidInputError(f"{key} is not there: choose one that is ({known})") from None
    except ValidationError as error:
        raise InvalidInputError(f"{key} cannot be read ({error.error_count()} problems): restore this file") from None


def _numbers(folder: Key) -> list[int]:
    """Numbers of a folder's records, in increasing order; those that an old listing lacks, too."""
    found = sorted(int(match[1]) for name in folder.list() if (match := RECORD_NAME.fullmatch(name)))
    while (folder / _name((found or [0])[-1] + 1)).stat() is not None:
        found.append((found or [0])[-1] + 1)
    return found


def _last(folder: Key) -> int:
    return (_numbers(folder) or [0])[-1]


def _name(number: int) -> str:
    return f"{number:06d}.json"
