"""Manifests: what an output directory holds, and the only way anything becomes visible in it.

A stage writes its files into a staging directory, then :class:`Publication` renames them into place and replaces
``manifest.json`` by compare-and-swap. Readers read only what the manifest lists, so nothing half-written is ever visible.
Nothing in a manifest comes from chance or a clock: the same inputs and configuration give the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from toposieve.errors import ConflictError, InvalidInputError

MANIFEST_NAME = "manifest.json"
STAGING_NAME = "_staging"

logger = logging.getLogger(__name__)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OutputFile(_Record):
    """One published file."""

    path: str
    """Relative to the manifest's directory."""
    bytes: int
    checksum: str


class Unit(_Record):
    """One unit of work: a range of entries of one input, and what became of it."""

    source: str
    """Identity of the input: a file id (path under ``raw/``), or the name of an upstream file."""
    source_checksum: str
    entry_start: int
    entry_stop: int
    counts: dict[str, int]
    """Events after each step, for example the cutflow's names."""
    outputs: tuple[OutputFile, ...]


class BadFile(_Record):
    """An input that was quarantined."""

    source: str
    reason: str


class Manifest(_Record):
    """Content of ``manifest.json``."""

    stage: str
    config_hash: str
    config: dict[str, Any]
    inputs: dict[str, str] = {}
    """Upstream manifest, relative to the base → its checksum."""
    units: tuple[Unit, ...]
    quarantined: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    """Remarks a reader should see, for example a fallback muon branch."""
    extra: dict[str, Any] = {}
    """What only this stage records."""
    code_version: str
    """Recorded for the reader; not part of any hash."""

    def outputs(self) -> Iterator[OutputFile]:
        """Every published file, in order of the units."""
        for unit in self.units:
            yield from unit.outputs

    def total(self, count: str) -> int:
        """Sum of one count over all units."""
        return sum(unit.counts.get(count, 0) for unit in self.units)


def file_checksum(path: Path) -> str:
    """BLAKE2b-128 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def describe_file(path: Path, directory: Path) -> OutputFile:
    """Record of a written file, with its path relative to ``directory``."""
    return OutputFile(
        path=path.relative_to(directory).as_posix(), bytes=path.stat().st_size, checksum=file_checksum(path)
    )


def read_manifest(directory: Path) -> Manifest:
    """Read a directory's manifest.

    Raises:
        InvalidInputError: It is missing or not a manifest; the message names the stage to run.
    """
    manifest = read_manifest_if_any(directory)
    if manifest is None:
        raise InvalidInputError(f"{directory / MANIFEST_NAME} is missing: run the stage that writes {directory} first")
    return manifest


def read_manifest_if_any(directory: Path) -> Manifest | None:
    """Read a directory's manifest, or None when it has none.

    Raises:
        InvalidInputError: The file is there but is not a manifest.
    """
    path = directory / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        raise InvalidInputError(
            f"{path} is not a manifest ({error.error_count()} problems); delete it and run again"
        ) from None


def verify_file(directory: Path, file: OutputFile) -> Path:
    """Check a listed file's presence, size and checksum, and return its path.

    Raises:
        InvalidInputError: The file is missing or was altered.
    """
    path = directory / file.path
    remedy = f"delete {directory} and run the stage that writes it again"
    if not path.is_file():
        raise InvalidInputError(f"{path} is listed in {MANIFEST_NAME} but missing: {remedy}")
    if path.stat().st_size != file.bytes or file_checksum(path) != file.checksum:
        raise InvalidInputError(f"{path} is not the file that {MANIFEST_NAME} lists (altered or cut short): {remedy}")
    return path


def reusable_units(directory: Path, manifest: Manifest | None, config_hash: str) -> list[Unit]:
    """Units of an earlier run whose files are still there, whole; what is damaged is left out and so done again."""
    if manifest is None or manifest.config_hash != config_hash:
        return []
    return [unit for unit in manifest.units if all(_is_intact(directory, file) for file in unit.outputs)]


def _is_intact(directory: Path, file: OutputFile) -> bool:
    try:
        verify_file(directory, file)
    except InvalidInputError as error:
        logger.warning("%s; doing it again", error)
        return False
    return True


def check_same_config(directory: Path, manifest: Manifest | None, config_hash: str, *, replace: bool) -> None:
    """Refuse to replace output made with another configuration, unless asked to.

    Raises:
        InvalidInputError: ``directory`` holds output of another configuration and ``replace`` is false.
    """
    if manifest is not None and manifest.config_hash != config_hash and not replace:
        raise InvalidInputError(
            f"{directory} was made with another configuration ({manifest.config_hash}, now {config_hash}): "
            "pass --replace to make it anew, or choose another name"
        )


class Publication:
    """One run's right to publish into a directory.

    Args:
        directory: The stage's output directory; created if needed.

    The manifest found at the start must still be there at the end, or :meth:`publish` raises ConflictError.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.staging = directory / STAGING_NAME / uuid.uuid4().hex
        self._found = _manifest_bytes(directory)
        self._staging_lock = -1

    def __enter__(self) -> Publication:
        """Sweep what killed runs left, then open a staging directory of our own."""
        self.staging.mkdir(parents=True)
        self._staging_lock = os.open(self.staging, os.O_RDONLY)
        fcntl.flock(self._staging_lock, fcntl.LOCK_EX)
        _sweep(self.staging.parent, keep=self.staging)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the staging directory, published or not."""
        shutil.rmtree(self.staging, ignore_errors=True)
        os.close(self._staging_lock)
        with _ignored_if_busy():
            self.staging.parent.rmdir()

    def publish(self, manifest: Manifest, staged: Iterable[OutputFile]) -> None:
        """Rename staged files (paths relative to the staging directory) into place, then replace the manifest.

        Files that the new manifest does not list are removed afterwards.

        Raises:
            ConflictError: Another run replaced the manifest since this one began.
        """
        with _locked(self.directory):
            if _manifest_bytes(self.directory) != self._found:
                raise ConflictError(
                    f"another run published to {self.directory} meanwhile; run again to go on from its result"
                )
            for file in staged:
                target = self.directory / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.staging / file.path, target)
            self._replace_manifest(manifest)
            _remove_unlisted(self.directory, {file.path for file in manifest.outputs()})
        logger.info("published %s", self.directory / MANIFEST_NAME)

    def _replace_manifest(self, manifest: Manifest) -> None:
        content = manifest.model_dump_json(indent=1).encode() + b"\n"
        temporary = self.staging / MANIFEST_NAME
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self.directory / MANIFEST_NAME)
        self._found = content


def _manifest_bytes(directory: Path) -> bytes | None:
    try:
        return (directory / MANIFEST_NAME).read_bytes()
    except FileNotFoundError:
        return None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # The lock is on the open directory itself, so the kernel releases it however the process ends.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(staging_root: Path, keep: Path) -> None:
    """Remove staging directories whose run is gone: a living run holds the lock on its own."""
    for path in staging_root.iterdir():
        if path == keep:
            continue
        with _ignored_if_busy():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                logger.info("removing %s, left by a run that was killed", path)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


@contextmanager
def _ignored_if_busy() -> Iterator[None]:
    try:
        yield
    except OSError:  # another run holds it, or took it away first: either way it is not ours to remove
        return


def _remove_unlisted(directory: Path, listed: set[str]) -> None:
    for path in (
        sorted(directory.rglob("*.parquet")) + sorted(directory.rglob("*.tfrecord")) + sorted(directory.rglob("*.root"))
    ):
        relative = path.relative_to(directory)
        if relative.parts[0] != STAGING_NAME and relative.as_posix() not in listed:
            path.unlink()
