"""The only way anything becomes visible in an output folder: one run's right to publish there, without locks.

A run shows a sign of life, looks at what is there, makes files under names of their own, and then creates the manifest
with the next number, if nobody else has. Who loses goes on from the winner's. Files that no manifest in use lists are
swept when they are old and nobody is at work.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io import manifests
from toposieve.io.heartbeats import Heartbeat, any_fresh, others, wait_for_sweeps
from toposieve.io.manifests import Manifest, OutputFile, Unit, fingerprint, manifest_name, merge
from toposieve.io.names import RECORDS
from toposieve.io.store import Key, Stat
from toposieve.io.sweep import KEPT_HOURS, leftovers, sweep

TIMING_NAME = "timing.json"

_ASKED_AT_ONCE = 16
"""Files, by a thread each: after a lost race, all of an output are asked for, and a store takes its time for each."""

logger = logging.getLogger(__name__)


class Publication:
    """One run's right to publish into a folder.

    Args:
        folder: The stage's output folder.
        kept_hours: Age at which leftovers are swept; 0 takes all that nobody works on.

    Inside the block :attr:`previous` is the newest manifest, or None: plan from it. Whoever publishes meanwhile is
    noticed by :meth:`publish`.

    Raises:
        InvalidInputError: The folder's manifest cannot be read, or the folder cannot be made or written to.
    """

    def __init__(self, folder: Key, *, kept_hours: float = KEPT_HOURS) -> None:
        """Touch nothing yet."""
        self.folder = folder
        self.previous: Manifest | None = None
        self._number = 0
        self._entries: Mapping[str, Stat] = {}
        self._lost: frozenset[str] = frozenset()
        self._kept_hours = kept_hours
        self._heartbeat = Heartbeat(folder)

    def __enter__(self) -> Publication:
        """Show a sign of life, and only then look at what is there."""
        now = self._heartbeat.begin()
        try:
            wait_for_sweeps(self.folder, now)
            return self.look()
        except BaseException:
            self._heartbeat.end()
            raise

    def look(self) -> Publication:
        """See what is there; outside the block, without a sign of life, for who publishes nothing."""
        self._entries = self.folder.list()
        newest = manifests.read_newest(self.folder, self._entries)
        if newest is not None:
            self.previous, self._number = newest.manifest, newest.number
            self._lost = frozenset(_missing(self.folder, self._entries, newest.manifest.outputs()))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """End the sign of life, published or not; sweep if all is well."""
        now = self._heartbeat.end()
        if kind is None and self.previous and leftovers(self._entries, self.previous, now, self._kept_hours):
            sweep(self.folder, kept_hours=self._kept_hours)

    def reusable(self, config_hash: str, code: int) -> list[Unit]:
        """Units of an earlier run with the same configuration and code whose files are there, in the right size."""
        previous = self.previous
        if previous is None or (previous.config_hash, previous.code) != (config_hash, code):
            return []
        lost = sorted({file.path for file in previous.outputs()} & self._lost)
        if lost:
            more = f" ({len(lost)} such files)" if len(lost) > 1 else ""
            logger.warning("%s is missing or cut short: to be done again%s", self.folder / lost[0], more)
        return [unit for unit in previous.units if not any(file.path in self._lost for file in unit.outputs)]

    def publish(self, manifest: Manifest) -> Manifest:
        """Make a manifest the newest one. All files that it lists are there already, under names of their own.

        Returns:
            What is published in the end: with the units of whoever was faster.

        Raises:
            ConflictError: Another run published what contradicts this manifest, or swept a file that it lists.
        """
        known, before = self._number, self.previous
        self._wake_up(manifest)
        while not self._create(manifest):
            newest = manifests.read_newest(self.folder)
            if newest is not None and newest.number > known:  # else a stub has the number, or what a crash left
                known = newest.number
                self._number = max(self._number, known)
                manifest = merge(manifest, newest.manifest, str(self.folder), before)
                before = newest.manifest
                if is_up_to_date(newest.manifest, manifest):
                    break
            self._wake_up(manifest, lost=True)
        self._check_there(manifest)
        self.previous = manifest
        logger.info("published %s", self.folder / manifest_name(self._number))
        self.remove_records(manifest)
        return manifest

    def _create(self, manifest: Manifest) -> bool:
        """Try to take the next number; one that holds these very bytes is ours, the answer to our request was lost."""
        self._number += 1
        key, content = self.folder / manifest_name(self._number), manifest.to_bytes()
        return key.create_if_absent(content) or manifests.read_finished(key) == content

    def _wake_up(self, manifest: Manifest, *, lost: bool = False) -> None:
        """Whoever was frozen may have been taken for dead: show that we live before looking whether all is there.

        A sweep that has not seen it ends first, and takes the number that we were about to take.
        """
        waited = wait_for_sweeps(self.folder, self._heartbeat.show())
        self._check_there(manifest, listing=not waited and not lost)  # it may still show what was just removed

    def _check_there(self, manifest: Manifest, *, listing: bool = True) -> None:
        self._entries = self.folder.list() if listing else {}
        # What was lost before this run began may be for another run to make again: it answers for its own samples only.
        expected = (file for file in manifest.outputs() if file.path not in self._lost)
        if gone := _missing(self.folder, self._entries, expected):
            raise ConflictError(
                f"{self.folder / gone[0]} is gone ({len(gone)} such files), removed meanwhile: run again"
            )

    def remove_records(self, manifest: Manifest) -> None:
        """Remove what the newest manifest says as well, unless a run that began before it may still look for that."""
        now = self._heartbeat.show()
        if any_fresh(others(self.folder, self._heartbeat), now):
            return
        listed = {f"{file.path}.json" for file in manifest.outputs()}
        records = self.folder / RECORDS
        records.delete_below(*(record for record in records.list() if record in listed))


def check_same_config(folder: Key, manifest: Manifest | None, config_hash: str, *, replace: bool) -> None:
    """Refuse to replace output made with another configuration, unless asked to.

    Raises:
        InvalidInputError: ``folder`` holds output of another configuration and ``replace`` is false.
    """
    if manifest is not None and manifest.config_hash != config_hash and not replace:
        raise InvalidInputError(
            f"{folder} was made with another configuration ({manifest.config_hash}, now {config_hash}): "
            "pass --replace to make it anew, or choose another name"
        )


def is_up_to_date(previous: Manifest | None, manifest: Manifest) -> bool:
    """Whether publishing ``manifest`` would change nothing but the recorded version of the code."""
    if previous is None or list(previous.outputs()) != list(manifest.outputs()):
        return False
    return fingerprint(previous) == fingerprint(manifest)


def write_timing(folder: Key, *, seconds: float, events: int, **more: Any) -> None:
    """Write ``timing.json``: how long the stage took; no part of the manifest, since it differs between runs.

    Args:
        folder: The stage's output folder.
        seconds: It took so long.
        events: For so many events.
        more: What else was timed.
    """
    (folder / TIMING_NAME).write_text(json.dumps({"seconds": round(seconds, 3), "events": events, **more}) + "\n")


def _missing(folder: Key, entries: Mapping[str, Stat], files: Iterable[OutputFile]) -> list[str]:
    """Paths of the files that are not there, or not in the size that they are listed with."""
    listed = list(files)
    # A listing may be old, so what it lacks is asked for.
    unseen = [file.path for file in listed if file.path not in entries]
    found = {**entries, **_ask(folder, unseen)}
    return [file.path for file in listed if (stat := found[file.path]) is None or stat.size != file.bytes]


def _ask(folder: Key, paths: Sequence[str]) -> dict[str, Stat | None]:
    with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="ask") as pool:
        return dict(zip(paths, pool.map(lambda path: (folder / path).stat(), paths), strict=True))
