"""What lies under ``raw/``: which files are input, and what is known of them since they were last inspected."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.delphes import SourceFile
from toposieve.io.manifests import read_newest
from toposieve.io.names import SIMULATED
from toposieve.io.store import Key, Stat

KNOWN_NAME = "_versions.json"
"""Beside a manifest: what inspection found, by the versions of its store. Trusted, and in no identity."""

SUFFIX = ".root"
_ADLER32_DIGITS = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundFile:
    """A ROOT file as its store lists it."""

    id: str
    """Path under ``raw/``."""
    size: int
    version: str
    listed_checksum: str = ""
    """What the simulation's manifest says; empty where there is none."""

    def is_still(self, known: SourceFile) -> bool:
        """Whether it is, by its store's word, what was inspected, and what the simulation has made."""
        same = (self.size, self.version) == (known.bytes, known.version)
        return same and self.listed_checksum in ("", known.checksum)


def find_files(raw: Key, samples: Sequence[str] | None, partition: str) -> list[FoundFile]:
    """A partition's ROOT files, by one listing for each sample.

    Args:
        raw: The folder of all raw files.
        samples: Samples to look for, each of which must have files; None takes those that have some.
        partition: The production day, or any other key.

    Raises:
        InvalidInputError: There are none, or none of a sample asked for, or a simulation is not finished.
    """
    found = {sample: _sample_files(raw, sample, partition) for sample in samples or schema.SAMPLES}
    empty = [sample for sample, files in found.items() if not files]
    if (samples and empty) or len(empty) == len(found):
        folders = ", ".join(str(raw / sample / partition) for sample in empty)
        raise InvalidInputError(f"no ROOT files (*{SUFFIX}) in {folders}: put some there, or run simulate.py")
    if empty:
        logger.info("no files of %s in partition %s", ", ".join(empty), partition)
    return [file for files in found.values() for file in files]


def _sample_files(raw: Key, sample: str, partition: str) -> list[FoundFile]:
    folder = raw / sample / partition
    entries = folder.list()
    own = {name: "" for name in entries if name.endswith(SUFFIX) and "/" not in name and not name.startswith(".")}
    newest = read_newest(folder, entries) if entries else None
    if newest is not None:
        listed = {file.path: file.checksum for file in newest.manifest.outputs()}
        if unlisted := sorted(own.keys() - listed.keys()):
            logger.warning("%s: left out since the manifest there does not list them: %s", folder, ", ".join(unlisted))
        # Manifests of earlier versions hold checksums of another kind.
        own = {name: checksum if len(checksum) == _ADLER32_DIGITS else "" for name, checksum in listed.items()}
    elif any(name.startswith(f"{SIMULATED}/") for name in entries):
        raise InvalidInputError(f"{folder} holds a simulation that is not finished: run simulate.py for it again")
    return [_found(f"{sample}/{partition}/{name}", entries.get(name), own[name]) for name in sorted(own)]


def _found(file_id: str, stat: Stat | None, listed_checksum: str) -> FoundFile:
    stat = stat or Stat(0, "", 0.0)
    return FoundFile(file_id, stat.size, stat.version, listed_checksum)


def read_known(folder: Key, raw: Key) -> dict[str, SourceFile]:
    """What earlier runs found in files of ``raw``: file id → inspection."""
    try:
        content = json.loads((folder / KNOWN_NAME).read_text())
        files = content["files"] if content["raw"] == str(raw) else {}
        return {file_id: SourceFile(id=file_id, key=raw / file_id, **values) for file_id, values in files.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        logger.warning("%s cannot be read; inspecting all files again", folder / KNOWN_NAME)
        return {}


def write_known(folder: Key, raw: Key, files: Iterable[SourceFile]) -> None:
    """Remember what was found."""
    found = {file.id: {k: v for k, v in asdict(file).items() if k not in ("id", "key")} for file in files}
    (folder / KNOWN_NAME).write_text(json.dumps({"raw": str(raw), "files": found}, indent=0, sort_keys=True) + "\n")
