"""What stages have in common: how they are asked to go about it, and how they end."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from toposieve.io.manifests import BadFile, Manifest
from toposieve.io.publication import Publication, is_up_to_date, write_timing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How to go about it; no part of any result."""

    quarantine: bool = False
    """Go on without bad files, and list them."""
    recompute: bool = False
    """Make everything anew."""
    verify: bool = False
    """Compare what is there with its checksums."""


def warn_of_quarantined(files: Iterable[BadFile]) -> None:
    """Log the files that a stage has left out, and how to lift their quarantine."""
    reasons = [file.reason for file in files]
    for reason in reasons:
        logger.warning("quarantined: %s", reason)
    if reasons:
        logger.warning("a file that is quarantined is tried again when it changes, and by a run without quarantine")


def finish(publication: Publication, manifest: Manifest, new_events: int, started: float) -> Manifest:
    """Publish what a stage did, unless it changes nothing, and log how it ended.

    Args:
        publication: Where to.
        manifest: The stage's new manifest.
        new_events: Events of those of its units that this run has made.
        started: When the stage began, as ``time.monotonic`` gave it.

    Returns:
        The newest manifest.
    """
    for note, count in Counter(note.partition(": ")[2] for note in manifest.notes).items():
        logger.warning("%s (%d of the files)", note, count)
    if publication.previous is not None and is_up_to_date(publication.previous, manifest):
        what = "made again, the same as before" if new_events else "nothing to do"
        logger.info("%s: %s has all %s events already", what, publication.folder, f"{manifest.total('events'):,}")
        if new_events:
            publication.remove_records(manifest)
        return publication.previous
    manifest = publication.publish(manifest)
    seconds = time.monotonic() - started
    write_timing(publication.folder, seconds=seconds, events=new_events)
    total = f"{manifest.total('events'):,}"
    logger.info("done: %s new events of %s in %.1f s", f"{new_events:,}", total, seconds)
    return manifest
