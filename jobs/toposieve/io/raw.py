"""What lies under ``raw/``: which files are input, and what is known of them since they were last inspected."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from toposieve.cross_sections import CrossSection
from toposieve.errors import InvalidInputError
from toposieve.io.delphes import SourceFile
from toposieve.io.manifests import Manifest, read_newest
from toposieve.io.names import SIMULATED, printable, sample_of
from toposieve.io.store import Key, Stat

KNOWN_NAME = "_versions.json"
"""Beside a manifest: what inspection found, by the versions of its store. Trusted, and in no identity."""

SUFFIX = ".root"
_ADLER32_DIGITS = 8
_MOST_NAMED = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundFile:
    """A ROOT file as its store lists it."""

    id: str
    """Path under ``raw/``, as it can be printed."""
    size: int
    """-1 where a link leads nowhere, or a manifest lists what is not there."""
    version: str
    listed_checksum: str = ""
    """What the simulation's manifest says; empty where there is none."""
    cross_section: CrossSection | None = None
    """Of its events, by the same word."""
    problem: str = ""
    """Why it cannot be an input, whatever it holds."""

    def is_still(self, known: SourceFile) -> bool:
        """Whether it is, by its store's word, what was inspected, and what the simulation has made."""
        same = (self.size, self.version) == (known.bytes, known.version)
        return same and self.listed_checksum in ("", known.checksum)


@dataclass(frozen=True)
class Ingested:
    """A partition as ingest left it."""

    raw: Key
    """The folder of all raw files."""
    folder: Key
    """Of its manifest, and of its events if they are stored."""
    manifest: Manifest


def find_files(raw: Key, samples: Sequence[str], partition: str) -> list[FoundFile]:
    """A partition's ROOT files, by one listing for each sample.

    Args:
        raw: The folder of all raw files.
        samples: Samples to look for. A partition need not have all of them: a dataset does.
        partition: The production day, or any other key.

    Raises:
        InvalidInputError: There are none, or a simulation is not finished.
    """
    found = {sample: _sample_files(raw, sample, partition) for sample in samples}
    empty = [sample for sample, files in found.items() if not files]
    folders = ", ".join(str(raw / sample / partition) for sample in empty)
    if len(empty) == len(found):
        raise InvalidInputError(f"no ROOT files (*{SUFFIX}) in {folders}: put some there, or run simulate.py")
    if empty:
        logger.warning("partition %s has no files of %s (in %s)", partition, ", ".join(empty), folders)
    return [file for files in found.values() for file in files]


def find_again(raw: Key, file_ids: Iterable[str]) -> list[FoundFile]:
    """Files that were found before, as their store lists them now.

    Args:
        raw: The folder of all raw files.
        file_ids: Their paths below it, ``{sample}/{partition}/...``.
    """
    places = {file_id: file_id.split("/", 2) for file_id in sorted(file_ids)}
    listings = {folder: (raw / folder).list() for folder in {f"{sample}/{day}" for sample, day, _ in places.values()}}
    return [_found(id_, listings[f"{sample}/{day}"].get(name), "") for id_, (sample, day, name) in places.items()]


def check_gone(previous: Manifest | None, files: Iterable[FoundFile], samples: Collection[str]) -> None:
    """Check that every input of the output so far is still there.

    What a simulation made may give way to what its newer manifest lists.

    Args:
        previous: The output's newest manifest.
        files: What is there.
        samples: Samples that were looked for.

    Raises:
        InvalidInputError: Some are gone.
    """
    there = {file.id for file in files if file.size >= 0}
    simulated = {sample_of(file.id) for file in files if _is_simulated(file.id)}
    sources = {unit.source for unit in previous.units} if previous else set()
    gone = [
        source
        for source in sorted(sources - there)
        if sample_of(source) in samples and not (_is_simulated(source) and sample_of(source) in simulated)
    ]
    if gone:
        more = f" and {len(gone) - _MOST_NAMED} more" if len(gone) > _MOST_NAMED else ""
        raise InvalidInputError(
            f"inputs are gone whose events are in the output: {', '.join(gone[:_MOST_NAMED])}{more}; bring them back "
            "(is a disk not mounted, does a link lead nowhere?), or pass --drop-missing to take their events out"
        )


def _is_simulated(file_id: str) -> bool:
    return f"/{SIMULATED}/" in file_id


def _sample_files(raw: Key, sample: str, partition: str) -> list[FoundFile]:
    folder = raw / sample / partition
    entries = folder.list()
    own = {name: "" for name in entries if name.endswith(SUFFIX) and "/" not in name and not name.startswith(".")}
    newest = read_newest(folder, entries) if entries else None
    said: dict[str, CrossSection | None] = {}
    if newest is not None:
        said = {file.path: unit.cross_section for unit in newest.manifest.units for file in unit.outputs}
        listed = {file.path: file.checksum for file in newest.manifest.outputs()}
        if unlisted := sorted(own.keys() - listed.keys()):
            names = ", ".join(map(printable, unlisted))
            logger.warning("%s: left out since the manifest there does not list them: %s", folder, names)
        # Manifests of earlier versions hold checksums of another kind.
        own = {name: checksum if len(checksum) == _ADLER32_DIGITS else "" for name, checksum in listed.items()}
    elif any(name.startswith(f"{SIMULATED}/") for name in entries):
        raise InvalidInputError(f"{folder} holds a simulation that is not finished: run simulate.py for it again")
    return [
        _found(f"{sample}/{partition}/{name}", entries.get(name), own[name], said.get(name)) for name in sorted(own)
    ]


def _found(
    file_id: str, stat: Stat | None, listed_checksum: str, cross_section: CrossSection | None = None
) -> FoundFile:
    stat = stat or Stat(-1, "", 0.0)
    shown = printable(file_id)
    problem = "" if shown == file_id else f"{shown}: its name is not UTF-8; rename it"
    return FoundFile(shown, stat.size, stat.version, listed_checksum, cross_section, problem)


def read_known(folder: Key, raw: Key) -> dict[str, SourceFile]:
    """What earlier runs found in files of ``raw``: file id → inspection."""
    try:
        content = json.loads((folder / KNOWN_NAME).read_text())
        files = content["files"] if content["raw"] == str(raw) else {}
        return {
            file_id: SourceFile(id=file_id, key=raw / file_id, **{**values, "optional": tuple(values["optional"])})
            for file_id, values in files.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        logger.warning("%s cannot be read; inspecting all files again", folder / KNOWN_NAME)
        return {}


def still_known(files: Iterable[FoundFile], known: Mapping[str, SourceFile]) -> dict[str, SourceFile]:
    """Those of the files that are, by their store's word, what was inspected: file id → inspection."""
    return {file.id: known[file.id] for file in files if file.id in known and file.is_still(known[file.id])}


def write_known(folder: Key, raw: Key, files: Iterable[SourceFile]) -> None:
    """Remember what was found."""
    found = {file.id: {k: v for k, v in asdict(file).items() if k not in ("id", "key")} for file in files}
    (folder / KNOWN_NAME).write_text(json.dumps({"raw": str(raw), "files": found}, indent=0, sort_keys=True) + "\n")
