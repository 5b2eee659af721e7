"""Removing what killed runs left and what newer manifests replaced: only names of our own, and only what is old."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from itertools import pairwise

from toposieve.io import manifests
from toposieve.io.heartbeats import SWEEP, SWEEP_SECONDS, Heartbeat, any_fresh, others
from toposieve.io.history import date, describe
from toposieve.io.manifests import STUB_BYTES, Manifest, manifest_name
from toposieve.io.names import is_ours
from toposieve.io.store import Key, Stat

KEPT_HOURS = 24.0
"""Age at which a sweep takes what no manifest in use lists; time enough to read what it replaced."""

BATCH = 1000
"""Objects removed at a time."""

logger = logging.getLogger(__name__)


def leftovers(entries: Mapping[str, Stat], newest: Manifest, now: float, kept_hours: float) -> bool:
    """Whether a sweep may have anything to do; costs no request.

    Args:
        entries: A listing of the folder.
        newest: Its newest manifest.
        now: The store's time.
        kept_hours: Age from which on things are taken.
    """
    oldest = now - kept_hours * 3600
    listed = {file.path for file in newest.outputs()}
    old_files = (is_ours(n) and n not in listed and s.modified <= oldest for n, s in entries.items())
    return any(old_files) or bool(_replaced(entries, oldest))


def sweep(folder: Key, *, kept_hours: float = KEPT_HOURS) -> None:
    """Sweep a folder, unless a run is at work in it or another sweep.

    Args:
        folder: An output folder.
        kept_hours: Age from which on things are taken.
    """
    sign = Heartbeat(folder, SWEEP)
    started = time.monotonic()
    now = sign.begin()
    try:
        signs = others(folder, sign)
        if any_fresh(signs, now):
            logger.info("%s is not swept: somebody is at work there", folder)
            return
        if signs:
            _take_number(folder, now)
        entries = folder.list()
        if any_fresh(_empty(entries), now):
            logger.info("%s is not swept: somebody is publishing there", folder)
            return
        _sweep(folder, sign, entries, now - kept_hours * 3600, started)
    finally:
        sign.end()


def _take_number(folder: Key, now: float) -> None:
    """Take the next number, with a stub: who has shown no sign for long may be frozen, just before taking it.

    On waking up he finds it taken, and looks again whether all is still there that he is about to list.
    """
    stub = manifests.Stub(swept=date(Stat(0, "", now)), was="nothing: taken by a sweep").model_dump_json().encode()
    number = manifests.all_numbers(folder)[-1] + 1
    while not (folder / manifest_name(number)).create_if_absent(stub):
        number += 1


def _sweep(folder: Key, sign: Heartbeat, entries: Mapping[str, Stat], oldest: float, started: float) -> None:
    replaced = _replaced(entries, oldest)
    listed = _listed(folder, [n for n in manifests.all_numbers(folder, entries) if n not in replaced])
    left = sorted(_left(entries, listed, oldest, sign.key.relative_to(folder)))
    if left:
        logger.info("removing %d files from %s that no manifest lists, such as %s", len(left), folder, left[0])
    for start in range(0, len(left), BATCH):
        if time.monotonic() - started > SWEEP_SECONDS / 2:  # runs are waiting, and will not wait much longer
            logger.info("%d files are left for the next sweep", len(left) - start)
            return
        folder.delete_below(*left[start : start + BATCH])
    for number in replaced:
        _leave_stub(folder / manifest_name(number), entries[manifest_name(number)])


def _empty(entries: Mapping[str, Stat]) -> list[float]:
    """When manifests were begun that are not written yet, which may be seen where there are no hard links."""
    names = map(manifest_name, manifests.manifest_numbers(entries))
    return [entries[name].modified for name in names if not entries[name].size]


def _replaced(entries: Mapping[str, Stat], oldest: float) -> list[int]:
    """Manifests that have had a successor for long enough. Stubs, and what a crash left empty, are no successors."""
    whole = [n for n in manifests.manifest_numbers(entries) if entries[manifest_name(n)].size > STUB_BYTES]
    return [number for number, successor in pairwise(whole) if entries[manifest_name(successor)].modified <= oldest]


def _left(entries: Mapping[str, Stat], listed: set[str], oldest: float, own: str) -> list[str]:
    return [
        name
        for name, stat in entries.items()
        if is_ours(name) and name not in listed and name != own and stat.modified <= oldest
    ]


def _listed(folder: Key, numbers: list[int]) -> set[str]:
    kept = (manifests.read_number(folder, number) for number in numbers)
    return {file.path for manifest in kept if manifest for file in manifest.outputs()}


def _leave_stub(key: Key, stat: Stat) -> None:
    manifest = manifests.parse_manifest(key.read_bytes(), key)
    if manifest is not None:
        stub = manifests.Stub(swept=date(stat), was=describe(manifest))
        key.write_bytes(stub.model_dump_json().encode())
