"""Manifests: what an output directory holds, and the only way anything becomes visible in it.

A stage writes its files into a staging directory, then :class:`Publication` renames them into place and replaces
``manifest.json`` by compare-and-swap. Readers read only what the manifest lists, so they see nothing half-written.
Nothing in a manifest comes from chance or a clock: the same inputs and configuration give the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from toposieve.errors import ConflictError, InvalidInputError

MANIFEST_NAME = "manifest.json"
STAGING_NAME = "_staging"
TIMING_NAME = "timing.json"
_CHUNK_BYTES = 1 << 20

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
    weights: dict[str, float] = {}
    """Sums of event weights after the same steps, where the stage knows weights."""
    outputs: tuple[OutputFile, ...]
    notes: tuple[str, ...] = ()
    """Remarks about the input; the manifest's own notes gather them."""


class BadFile(_Record):
    """An input that was quarantined."""

    source: str
    reason: str
    source_checksum: str = ""
    """Its checksum when it was found bad; empty when not even that could be had."""


class Manifest(_Record):
    """Content of ``manifest.json``."""

    stage: str
    config_hash: str
    config: dict[str, Any]
    inputs: dict[str, str] = {}
    """Folder of an upstream manifest, relative to the base → the manifest's :func:`fingerprint`."""
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


def gather_notes(units: Iterable[Unit]) -> tuple[str, ...]:
    """Every remark of the units once for each input, as "input: remark"."""
    return tuple(sorted({f"{unit.source}: {note}" for unit in units for note in unit.notes}))


def fingerprint(manifest: Manifest) -> str:
    """Thirty-two hexadecimal digits that change with anything a manifest says, except the version of the code."""
    content = manifest.model_dump(mode="json", exclude={"code_version"})
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def file_checksum(path: Path) -> str:
    """XXH3-128 of a file's bytes, in hexadecimal: it finds damage, at memory speed; it is no signature."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


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
        InvalidInputError: The file is there but cannot be read or is not a manifest.
    """
    return _parse(directory, _manifest_bytes(directory))


def verify_file(directory: Path, file: OutputFile) -> Path:
    """Check a listed file's presence, size and checksum, and return its path.

    Raises:
        InvalidInputError: The file is missing, unreadable or was altered.
    """
    path = directory / file.path
    remedy = f"delete {directory} and run the stage that writes it again"
    try:
        intact = path.stat().st_size == file.bytes and file_checksum(path) == file.checksum
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidInputError(f"{path} is listed in {MANIFEST_NAME} but missing: {remedy}") from None
    except OSError as error:
        raise InvalidInputError(
            f"{path} is listed in {MANIFEST_NAME} but cannot be read ({error.strerror}): {remedy}"
        ) from None
    if not intact:
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


def is_up_to_date(previous: Manifest | None, manifest: Manifest) -> bool:
    """Whether publishing ``manifest`` would change nothing but the recorded version of the code."""
    return previous is not None and fingerprint(previous) == fingerprint(manifest)


class Publication:
    """One run's right to publish into a directory.

    Args:
        directory: The stage's output directory; created if needed.

    The manifest found at the start (:attr:`previous`) must still be there at the end, or :meth:`publish` raises
    ConflictError. Plan from ``previous``, not from a manifest read separately: otherwise another run may come between.

    Raises:
        InvalidInputError: The directory's manifest cannot be read, or the directory cannot be made or written to.
    """

    def __init__(self, directory: Path) -> None:
        """Remember the manifest that is there now."""
        self.directory = directory
        self.staging = directory / STAGING_NAME / uuid.uuid4().hex
        self._found = _manifest_bytes(directory)
        self.previous = _parse(directory, self._found)
        self._staging_lock = -1

    def __enter__(self) -> Publication:
        """Open a staging directory of our own and sweep what killed runs left."""
        _make_directory(self.directory)
        with _locked(self.directory):
            # Made and locked before any other run may sweep: sweeping takes the same lock.
            _make_directory(self.staging)
            self._staging_lock = os.open(self.staging, os.O_RDONLY)
            fcntl.flock(self._staging_lock, fcntl.LOCK_EX)
            _sweep(self.staging.parent, keep=self.staging)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the staging directory, published or not."""
        shutil.rmtree(self.staging, ignore_errors=True)
        os.close(self._staging_lock)
        with _locked(self.directory), suppress(OSError):  # another run's staging may still be in there
            self.staging.parent.rmdir()

    def publish(self, manifest: Manifest, staged: Iterable[OutputFile]) -> None:
        """Rename staged files (paths relative to the staging directory) into place, then replace the manifest.

        Files that the manifest found at the start lists and the new one does not are removed afterwards. Files that no
        manifest lists are left alone: they may be a user's own.

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
            self._remove_replaced({file.path for file in manifest.outputs()})
        self.previous = manifest
        logger.info("published %s", self.directory / MANIFEST_NAME)

    def _replace_manifest(self, manifest: Manifest) -> None:
        content = manifest.model_dump_json(indent=1).encode() + b"\n"
        replace_file(self.directory / MANIFEST_NAME, content, temporary=self.staging / MANIFEST_NAME)
        self._found = content

    def _remove_replaced(self, listed: set[str]) -> None:
        for file in self.previous.outputs() if self.previous else ():
            if file.path not in listed:
                (self.directory / file.path).unlink(missing_ok=True)


def replace_file(path: Path, content: bytes, *, temporary: Path | None = None) -> None:
    """Write a small file so that readers see the old content or the new, never a part.

    Args:
        path: The file.
        content: Its new content.
        temporary: Where to write it first, on the same file system; by default beside ``path``.
    """
    temporary = temporary or path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_timing(directory: Path, *, seconds: float, events: int) -> None:
    """Write ``timing.json``: how long the stage took; no part of the manifest, since it differs between runs."""
    content = {"seconds": round(seconds, 3), "events": events}
    replace_file(directory / TIMING_NAME, json.dumps(content).encode() + b"\n")


def _parse(directory: Path, content: bytes | None) -> Manifest | None:
    if content is None:
        return None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise InvalidInputError(
            f"{directory / MANIFEST_NAME} is not a manifest ({error.error_count()} problems); delete it and run again"
        ) from None


def _manifest_bytes(directory: Path) -> bytes | None:
    path = directory / MANIFEST_NAME
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read ({error.strerror}): check it and its permissions") from None


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InvalidInputError(
            f"{directory} cannot be made ({error.strerror}): choose another --base, or mend its permissions"
        ) from None


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
        if path != keep:
            _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # its run ended just now and took it away
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        logger.info("removing %s, left by a run that was killed", path)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
