"""Manifests: what an output folder holds. Readers read only what the newest manifest lists.

Manifests are numbered, ``manifest-000007.json``, each made once and never replaced; the highest number is the truth. A
number whose manifest was swept keeps a stub, so that it is never free again. Nothing in a manifest comes from chance or
a clock: the same inputs and configuration give the same bytes. How one becomes visible is the business of
:mod:`~toposieve.io.publication`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from isal import isal_zlib
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toposieve.cross_sections import CrossSection
from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io.store import Key, Stat
from toposieve.weights import WeightSums

PREFIX = "manifest"
OLDEST_NAME = "manifest.json"
"""Manifest number 0: what versions of this project before numbers have written."""

_NAME = re.compile(r"manifest-(\d{6,})\.json")
_CHUNK_BYTES = 1 << 20
_UNFINISHED_SECONDS = 10
STUB_BYTES = 500
"""No manifest is as small; no stub is larger."""

_Name = TypeVar("_Name", str, tuple[str, int, int])
_Value = TypeVar("_Value")


def _is_empty(sums: dict[str, float] | CrossSection | str | None) -> bool:
    # What has none is not said: manifests of before stay as they are, and keep their fingerprints.
    return not sums


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OutputFile(_Record):
    """One published file."""

    path: str
    """Relative to the manifest's folder."""
    bytes: int
    checksum: str
    """Adler-32, eight hexadecimal digits."""


class Unit(_Record):
    """One unit of work: a range of entries of one input, and what became of it."""

    source: str
    """Identity of the input: a file id (path under ``raw/``), or the name of an upstream file."""
    source_bytes: int = 0
    source_checksum: str
    entry_start: int
    entry_stop: int
    counts: dict[str, int]
    """Events after each step, for example the cutflow's names."""
    weights: dict[str, float] = {}
    """Sums of event weights after the same steps, where the stage knows weights."""
    negative_weights: dict[str, float] = Field(default={}, exclude_if=_is_empty)
    """Those of the negative weights alone; a step without any is left out."""
    squared_weights: dict[str, float] = Field(default={}, exclude_if=_is_empty)
    """Sums of the weights' squares, where the stage knows them."""
    content: str = Field(default="", exclude_if=_is_empty)
    """Digest of the selected events, whatever their file is called; empty where there are none."""
    cross_section: CrossSection | None = Field(default=None, exclude_if=_is_empty)
    """Of all events of the input, where it was simulated."""
    outputs: tuple[OutputFile, ...]
    notes: tuple[str, ...] = ()
    """Remarks about the input; the manifest's own notes gather them."""

    @property
    def range(self) -> tuple[str, int, int]:
        """What of which input it is."""
        return self.source, self.entry_start, self.entry_stop

    @property
    def input(self) -> tuple[int, str]:
        """What the input was, beside its name: size and checksum."""
        return self.source_bytes, self.source_checksum

    def weight_sums(self, step: str) -> WeightSums:
        """Sums of the weights after a step."""
        return WeightSums(
            *(sums.get(step, 0.0) for sums in (self.weights, self.negative_weights, self.squared_weights))
        )


class BadFile(_Record):
    """An input that was quarantined."""

    source: str
    reason: str
    source_checksum: str = ""
    """Its checksum when it was found bad; empty where that could not be had, or says nothing."""


class Manifest(_Record):
    """Content of a manifest."""

    stage: str
    config_hash: str
    config: dict[str, Any]
    code: int = 0
    """Number of the stage's code (:mod:`toposieve.code_numbers`)."""
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

    def to_bytes(self) -> bytes:
        """As it is published."""
        return self.model_dump_json(indent=1).encode() + b"\n"


def weight_fields(sums: Mapping[str, WeightSums]) -> dict[str, dict[str, float]]:
    """The fields of a :class:`Unit` that keep the weights' sums after each step."""
    return {
        "weights": {step: each.total for step, each in sums.items()},
        "negative_weights": {step: each.negative for step, each in sums.items() if each.negative},
        "squared_weights": {step: each.squares for step, each in sums.items()},
    }


def in_order(units: Iterable[Unit]) -> tuple[Unit, ...]:
    """Units as manifests list them: by source, then entry."""
    return tuple(sorted(units, key=lambda unit: unit.range))


def gather_notes(units: Iterable[Unit]) -> tuple[str, ...]:
    """Every remark of the units once for each input, as "input: remark"."""
    return tuple(sorted({f"{unit.source}: {note}" for unit in units for note in unit.notes}))


def fingerprint(manifest: Manifest) -> str:
    """Thirty-two hexadecimal digits that change with anything a manifest says that matters to who uses the output.

    The version of the code does not, nor whether ingest has stored the events that it has registered.
    """
    optional = {"units": {"__all__": {"outputs"}}} if manifest.stage == "ingest" else {}
    content = manifest.model_dump(mode="json", exclude={"code_version": True, **optional})
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def merge(mine: Manifest, winner: Manifest, where: str, before: Manifest | None = None) -> Manifest:
    """What a run publishes that lost a race: its own units beside the winner's, without what either took out.

    Args:
        mine: Made without knowing the winner's.
        winner: Published meanwhile.
        where: The folder, for the message.
        before: What both went on from, if there was anything.

    Raises:
        ConflictError: They contradict each other: another configuration, code or input.
    """
    inputs = {unit.source: unit.input for unit in winner.units}
    changed = sorted({unit.source for unit in mine.units if inputs.get(unit.source, unit.input) != unit.input})
    bad_here = {file.source for file in mine.quarantined} & set(inputs)
    bad = bad_here | {file.source for file in winner.quarantined} & {unit.source for unit in mine.units}
    same = (mine.stage, mine.config_hash, mine.code, mine.inputs, mine.extra) == (
        winner.stage, winner.config_hash, winner.code, winner.inputs, winner.extra
    )  # fmt: skip
    if not same or changed or bad:
        what = ", ".join(changed[:3] or sorted(bad)[:3]) or "configuration or inputs"
        raise ConflictError(
            f"another run published to {where} meanwhile, with other {what}; run again to go on from its result"
        )

    if before is not None and (before.config_hash, before.code) != (mine.config_hash, mine.code):
        before = None  # neither went on from it: they replace it

    def both(of: Callable[[Manifest], Mapping[_Name, _Value]]) -> list[_Value]:
        old, ours, theirs = (of(each) if each else {} for each in (before, mine, winner))
        taken_out = {name for name in old if name not in ours or name not in theirs}
        return [value for name, value in sorted({**ours, **theirs}.items()) if name not in taken_out]

    return mine.model_copy(
        update={
            "units": tuple(both(lambda each: {unit.range: unit for unit in each.units})),
            "quarantined": tuple(both(lambda each: {file.source: file for file in each.quarantined})),
            "notes": tuple(both(lambda each: {note: note for note in each.notes})),
        }
    )


@dataclass(frozen=True)
class Numbered:
    """A manifest and its number."""

    number: int
    manifest: Manifest


class Stub(_Record):
    """What a sweep leaves of an old manifest."""

    swept: str
    """When it had been published."""
    was: str
    """What it said, in a few words."""


def manifest_name(number: int) -> str:
    """Name of a manifest; the oldest has none of its own.

    >>> manifest_name(7), manifest_name(0)
    ('manifest-000007.json', 'manifest.json')
    """
    return f"manifest-{number:06d}.json" if number else OLDEST_NAME


def manifest_numbers(entries: Mapping[str, Stat]) -> list[int]:
    """Numbers of the manifests among a folder's entries, in increasing order."""
    matches = (_NAME.fullmatch(name) for name in entries)
    return [0] * (OLDEST_NAME in entries) + sorted(int(match[1]) for match in matches if match)


def read_newest(folder: Key, entries: Mapping[str, Stat] | None = None) -> Numbered | None:
    """The newest manifest of a folder, or None when it has none.

    Args:
        folder: An output folder.
        entries: A listing of it, where there is one already. It may be old: what came since is found by asking.

    Raises:
        InvalidInputError: A manifest is there but is none.
    """
    numbers = all_numbers(folder, entries)
    for number in reversed(numbers):
        manifest = read_number(folder, number)
        if manifest is not None:
            return Numbered(number, manifest)
        if number == numbers[-1] and all_numbers(folder, {}, number) != [number]:  # it was swept, just after we asked
            return read_newest(folder)
    return None


def all_numbers(folder: Key, entries: Mapping[str, Stat] | None = None, last: int = 0) -> list[int]:
    """Numbers of a folder's manifests, stubs among them, in increasing order; those that a listing lacks, too.

    Args:
        folder: An output folder.
        entries: A listing of it, where there is one already.
        last: A number that is there, where the listing shows none.
    """
    numbers = manifest_numbers(folder.list(PREFIX) if entries is None else entries) or [last]
    while (folder / manifest_name(numbers[-1] + 1)).stat() is not None:
        numbers.append(numbers[-1] + 1)
    return numbers


def read_number(folder: Key, number: int) -> Manifest | None:
    """One manifest; None where there is only its stub, or nothing.

    Raises:
        InvalidInputError: It is neither.
    """
    key = folder / manifest_name(number)
    try:
        content = read_finished(key, or_empty=True)
    except FileNotFoundError:
        return None
    return parse_manifest(content, key)


def read_finished(key: Key, *, or_empty: bool = False) -> bytes:
    """The bytes of a manifest, which without hard links may be seen while it is written.

    Args:
        key: The manifest.
        or_empty: Do not wait for one in which there is nothing yet.

    Returns:
        The whole of it; or what there is after ten seconds, left by a writer that died.
    """
    for _ in range(_UNFINISHED_SECONDS):
        content = key.read_bytes()
        if (content or or_empty) and not _is_torn(content):
            break
        time.sleep(1)
    return content


def _is_torn(content: bytes) -> bool:
    if content.endswith(b"\n}\n"):  # as Manifest.to_bytes ends, and nothing in it before: no need to read it twice
        return False
    try:
        json.loads(content)
    except ValueError:
        return content.startswith(b"{")
    return False


def parse_manifest(content: bytes, key: Key) -> Manifest | None:
    """A manifest from its bytes; None for a stub, or for nothing: its writer died, on a disk without hard links.

    Raises:
        InvalidInputError: It is neither.
    """
    if not content or read_stub(content):
        return None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise InvalidInputError(
            f"{key} is not a manifest ({error.error_count()} problems); delete it and run again"
        ) from None


def read_stub(content: bytes) -> Stub | None:
    """A stub from its bytes, or None where they are none."""
    if len(content) > STUB_BYTES:  # to say why it is none would take thirty times its size
        return None
    try:
        return Stub.model_validate_json(content)
    except ValidationError:
        return None


def read_manifest_if_any(folder: Key) -> Manifest | None:
    """The newest manifest of a folder, or None when it has none.

    Raises:
        InvalidInputError: The file is there but is no manifest, or cannot be read.
    """
    newest = read_newest(folder)
    return newest.manifest if newest else None


def read_manifest(folder: Key) -> Manifest:
    """The newest manifest of a folder.

    Raises:
        InvalidInputError: There is none, or it is none; the message names the stage to run.
    """
    manifest = read_manifest_if_any(folder)
    if manifest is None:
        raise InvalidInputError(f"{folder} has no manifest: run the stage that writes it first")
    return manifest


def check_listed(folder: Key, file: OutputFile) -> Key:
    """Check a listed file's presence and size, and return its key. Its content is checked by whoever reads it.

    Raises:
        InvalidInputError: The file is missing or has another size.
    """
    key = folder / file.path
    found = key.stat()
    if found is None or found.size != file.bytes:
        what = "missing" if found is None else f"{found.size:,} bytes long instead of {file.bytes:,}"
        raise InvalidInputError(f"{key} is {what}: run the stage that writes {folder} again")
    return key


def adler32(path: Path) -> str:
    """Adler-32 of a file's bytes, eight hexadecimal digits: what XRootD and many other servers know of theirs."""
    value = 1
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            value = isal_zlib.adler32(chunk, value)
    return f"{value:08x}"


def describe_file(path: Path, name: str) -> OutputFile:
    """Record of a file that will be published under a name, relative to its manifest's folder."""
    return OutputFile(path=name, bytes=path.stat().st_size, checksum=adler32(path))
