"""Cross-sections of samples, from the records of their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from toposieve import schema
from toposieve.cross_sections import CrossSection
from toposieve.io.dataset_classes import classes_of
from toposieve.io.manifests import Manifest, Unit
from toposieve.io.names import sample_of
from toposieve.weights import WeightSums

CROSS_SECTIONS = "cross_sections"
"""In a dataset's manifest: sample → pb, error and source of that of its selected events, or null."""


def sample_cross_section(units: Sequence[Unit], cut: str) -> CrossSection | None:
    """Cross-section of a sample's events after a cut; None where not every file with events says what its own is.

    Args:
        units: The sample's, as they were selected.
        cut: One of ``schema.CUTFLOW``.
    """
    files = _files(units)
    known = [each for each in files.values() if each is not None]
    if not known or len(known) < len(files):
        return None
    events, passed = (WeightSums.merge(unit.weight_sums(step) for unit in units) for step in (schema.CUTFLOW[0], cut))
    return CrossSection.combine(known).passing(events, passed)


def cross_section_notes(units: Iterable[Unit]) -> list[str]:
    """Remarks on samples of which some files say their cross-section, and others do not."""
    files, notes = _files(units), []
    for sample in schema.SAMPLES:
        of_sample = {source: each for source, each in files.items() if sample_of(source) == sample}
        silent = [source for source, each in of_sample.items() if each is None]
        if 0 < len(silent) < len(of_sample):
            counts = f"{len(silent)} of {len(of_sample)}"
            notes.append(f"{sample}: no cross-section, since {counts} files do not say theirs ({silent[0]})")
    return notes


def _files(units: Iterable[Unit]) -> dict[str, CrossSection | None]:
    """What each file with events says, in order of their names: a file may be several units."""
    said = {unit.source: unit.cross_section for unit in units if unit.counts.get(schema.CUTFLOW[0])}
    return dict(sorted(said.items()))


def cross_sections(manifest: Manifest) -> dict[str, tuple[float, float] | None]:
    """Cross-section of each sample's selected events, and its error, both in pb; None where nobody knows.

    Args:
        manifest: A dataset's.
    """
    found = {sample: manifest.extra.get(CROSS_SECTIONS, {}).get(sample) for sample in classes_of(manifest)}
    return {sample: (each["pb"], each["error"]) if each else None for sample, each in found.items()}
