"""Small synthetic ``selected`` partitions, written without Spark: random features whose classes can be told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.classes import labels_of
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import SelectionConfig
from toposieve.cross_sections import CrossSection
from toposieve.io import manifests
from toposieve.io.names import unit_name
from toposieve.io.publication import Publication
from toposieve.io.selected import SelectedBatch, write_ordered
from toposieve.io.store import Key, root_key
from toposieve.weights import WeightSums

KINDS = len(schema.PARTICLE_KINDS)
CROSS_SECTION = CrossSection(60.0, 3.0, 100)
"""What every file of wjets says; others do not."""
NINE, SIX = WeightSums.of([1.0] * 9), WeightSums.of([1.0] * 6)


@dataclass(frozen=True)
class SelectedUnit:
    """The selected events of one unit of work, as physics arrays.

    Attributes:
        file: File id; its first component is the sample.
        entries: Entry numbers in that file, (events,).
        particles: Stored particle feature, ``kind`` or ``Charge`` → flat array over all particles.
        offsets: (events + 1,).
    """

    file: str
    entries: NDArray[np.int64]
    weights: NDArray[np.float32]
    high_level: NDArray[np.float32]  # (events, 14)
    offsets: NDArray[np.int64]
    particles: Mapping[str, NDArray[Any]]

    @property
    def sample(self) -> str:
        return self.file.split("/")[0]


def random_unit(
    file: str, events: int, seed: int, particles: tuple[int, int] = (3, 12), first_entry: int = 0
) -> SelectedUnit:
    """Random events of one class; every third entry was not selected."""
    random = np.random.default_rng(seed)
    label = labels_of(schema.SAMPLES).get(file.split("/")[0], 0)
    lengths = random.integers(particles[0], particles[1] + 1, events)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    total = int(offsets[-1])
    eta = random.normal(0, 1.2 + 0.3 * label, total)
    columns = {
        name: random.normal(0.3 * label, 1, total).astype(np.float32) for name in schema.STORED_PARTICLE_FEATURES
    }
    columns["Pt"] = random.gamma(1 + label, 3, total).astype(np.float32) + np.float32(0.5)
    columns["Eta"] = eta.astype(np.float32)
    columns["Phi"] = random.uniform(-np.pi, np.pi, total).astype(np.float32)
    columns["kind"] = random.integers(0, KINDS, total).astype(np.int8)
    columns["Charge"] = random.integers(-1, 2, total).astype(np.int8)
    return SelectedUnit(
        file=file,
        entries=first_entry + np.flatnonzero(np.arange(2 * events) % 3)[:events].astype(np.int64),
        weights=random.gamma(4, 0.25 * (1 + label), events).astype(np.float32),
        high_level=random.normal(label, 1, (events, len(schema.HIGH_LEVEL_FEATURES))).astype(np.float32),
        offsets=offsets,
        particles=columns,
    )


def random_units(
    partition: str, events: Mapping[str, int], *, files: int = 2, seed: int = 1, particles: tuple[int, int] = (3, 12)
) -> list[SelectedUnit]:
    """Units of one partition with so many events of each sample, spread unevenly over ``files`` files."""
    units = []
    for label, (sample, count) in enumerate(events.items()):
        cuts = np.linspace(0, 1, files + 1) ** 2 * count
        for number, (start, stop) in enumerate(zip(cuts[:-1].astype(int), cuts[1:].astype(int), strict=True)):
            file = f"{sample}/{partition}/{sample}-{number:06d}.root"
            units.append(random_unit(file, int(stop - start), seed * 1000 + label * 100 + number, particles))
    return units


def write_selected(
    base: Path, partition: str, units: Sequence[SelectedUnit], config: SelectionConfig | None = None, **fields: Any
) -> Key:
    """Publish ``base/selected/partition`` as the selection stage does, and return where it is.

    Args:
        base: Where all data lives.
        partition: Production day.
        units: What was selected.
        config: What it was selected with.
        **fields: Of the manifest, where they matter.
    """
    config = config or SelectionConfig()
    folder = root_key("--base", str(base)) / "selected" / partition
    with Publication(folder) as publication:
        content = {
            "stage": "select",
            "config_hash": config.hash,
            "config": config.model_dump(mode="json"),
            "code": CODE_NUMBERS["select"],
            "units": tuple(_write_unit(folder, number, unit) for number, unit in enumerate(units)),
            "code_version": "test",
        }
        publication.publish(manifests.Manifest.model_validate({**content, **fields}))
    return folder


def with_signs(unit: SelectedUnit) -> SelectedUnit:
    """The same unit, two of five events with a negative weight."""
    return replace(unit, weights=np.where(unit.entries % 5 < 2, -unit.weights, unit.weights))


def with_value(unit: SelectedUnit, column: str, position: int, value: float) -> SelectedUnit:
    """The same unit with one stored particle value changed."""
    values = np.array(unit.particles[column])
    values[position] = value
    return replace(unit, particles={**unit.particles, column: values})


def pileup_of(entries: NDArray[np.int64]) -> NDArray[np.int32]:
    """Pile-up interactions of the events at some entries, unknown for some."""
    return np.where(entries % 5, entries % 60, schema.NO_PILEUP).astype(np.int32)


def batch_of(unit: SelectedUnit, start: int = 0, stop: int | None = None) -> SelectedBatch:
    """Some of the events, all by default, as the selection passes them on to be written."""
    rows = np.arange(len(unit.entries))[start:stop]
    offsets = unit.offsets[start : start + len(rows) + 1]
    particles = {name: values[offsets[0] : offsets[-1]] for name, values in unit.particles.items()}
    flat = unit.entries[rows], unit.weights[rows], pileup_of(unit.entries[rows]), unit.high_level[rows]
    return SelectedBatch(rows, *flat, offsets - offsets[0], particles)


def _write_unit(folder: Key, number: int, unit: SelectedUnit) -> manifests.Unit:
    arrays = [unit.entries, unit.weights, unit.high_level, unit.offsets, *unit.particles.values()]
    content = b"".join(values.tobytes() for values in arrays)
    name = unit_name(unit.file, number, hashlib.sha256(content).hexdigest())
    with (folder / name).create() as path:
        write_ordered(path, unit.file, [batch_of(unit)])
        file = manifests.describe_file(path, name)
    events = len(unit.entries)
    stop = int(unit.entries[-1]) + 1 if events else 10
    return manifests.Unit(
        source=unit.file,
        source_checksum="0" * 8,
        entry_start=0,
        entry_stop=stop,
        counts={"events": 2 * stop, "lepton_pt": stop, "isolated_lepton": events},
        **manifests.weight_fields(
            {"events": NINE, "lepton_pt": SIX, "isolated_lepton": WeightSums.of(unit.weights.tolist())}
        ),
        cross_section=CROSS_SECTION if unit.sample == "wjets" else None,
        outputs=(file,),
    )
