"""Select: the events of ingested files that have an isolated lepton, and their features; one file for each unit.

plan (:func:`plan`, :func:`find_events`) → run (:func:`select_unit` on Spark) → publish (:func:`selected_manifest`,
:func:`write_cutflow`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import SelectionConfig
from toposieve.errors import InvalidInputError
from toposieve.event_keys import event_keys
from toposieve.io.delphes import SourceFile, read_events
from toposieve.io.manifests import BadFile, Manifest, Unit, fingerprint, gather_notes, in_order, weight_fields
from toposieve.io.names import sample_of, unit_name
from toposieve.io.parquet import read_event_batches
from toposieve.io.raw import Ingested
from toposieve.io.sample_cross_sections import cross_section_notes, sample_cross_section
from toposieve.io.selected import SelectedBatch, write_ordered
from toposieve.io.stages import Options, warn_of_quarantined
from toposieve.io.store import Key
from toposieve.io.units import Finished, adopt_or_make
from toposieve.physics.events import EventBatch, Events
from toposieve.physics.selection import SelectedEvents, select_events
from toposieve.physics.variations import vary
from toposieve.spark.inspection import inspect_again
from toposieve.spark.run import run_on_spark
from toposieve.spark.verification import kept_units
from toposieve.version import code_version
from toposieve.weights import WeightSums

if TYPE_CHECKING:
    from toposieve.io.publication import Publication
    from toposieve.spark.session import SparkOnDemand

STAGE = "select"
CUTFLOW_NAME = "cutflow.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectItem:
    """A range of entries of one file."""

    source: Unit
    """Its record in ingest's manifest."""
    origin: SourceFile | Key
    """The ROOT file, or the Parquet file in which ingest has stored its events."""
    folder: Key
    """Where the selected events go."""
    name: str
    """Of their file; it follows from everything that decides its content."""
    config: SelectionConfig
    adopt: bool = True

    @property
    def events(self) -> int:
        """Events to read."""
        return self.source.entry_stop - self.source.entry_start

    def batches(self) -> Iterator[EventBatch]:
        """The events."""
        if isinstance(self.origin, Key):
            return read_event_batches(self.origin)
        return read_events(self.origin, self.source.entry_start, self.source.entry_stop)


# --- plan --------------------------------------------------------------------------------------------------------


def unit_names(units: Iterable[Unit], config: SelectionConfig) -> dict[str, Unit]:
    """File name of what each ingested unit becomes: the same whether its events are stored or not.

    Raises:
        InvalidInputError: A unit's sample is none that we know.
    """
    return {_unit_name(unit, config): unit for unit in units if sample_of(unit.source)}


def _unit_name(unit: Unit, config: SelectionConfig) -> str:
    return unit_name(
        unit.source, STAGE, CODE_NUMBERS[STAGE], *unit.input, unit.entry_start, unit.entry_stop, config.hash
    )


def find_events(
    ingested: Ingested, units: Iterable[Unit], spark: SparkOnDemand, options: Options
) -> tuple[dict[tuple[str, int, int], SourceFile | Key], list[BadFile]]:
    """Where the events of ingested units are: in Parquet where that is stored, else in ROOT; and files gone bad.

    Raises:
        InvalidInputError: A ROOT file is needed that is gone, bad or not the one that was ingested.
    """
    there = ingested.folder.list()
    origins: dict[tuple[str, int, int], SourceFile | Key] = {
        unit.range: ingested.folder / file.path
        for unit in units
        for file in unit.outputs
        if file.path in there and there[file.path].size == file.bytes
    }
    others = [unit for unit in units if unit.range not in origins]
    files = inspect_again(ingested.raw, ingested.folder, others, spark) if others else []
    bad = [file for file in files if isinstance(file, BadFile)]
    if bad and not options.quarantine:
        raise InvalidInputError("\n".join(file.reason for file in bad))
    good = {file.id: file for file in files if isinstance(file, SourceFile)}
    origins |= {unit.range: good[unit.source] for unit in others if unit.source in good}
    return origins, bad


# --- run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selected:
    """What the units have become, now or by an earlier run."""

    units: tuple[Unit, ...]
    new_events: int
    quarantined: tuple[BadFile, ...]
    """Files that turned out bad when they were read."""


def select_partition(
    ingested: Ingested,
    publication: Publication,
    config: SelectionConfig,
    spark: SparkOnDemand,
    options: Options,
) -> Selected:
    """Select the events of a partition; publishing is left to the caller.

    Args:
        ingested: The partition.
        publication: Where to; units of its previous manifest are kept if still good.
        config: Cuts.
        spark: Started only if there is something to do.
        options: What the command line wants.

    Raises:
        InvalidInputError: A file is gone, damaged, has changed, or holds values that it must not.
    """

    def item(name: str, unit: Unit, origin: SourceFile | Key) -> SelectItem:
        return SelectItem(unit, origin, publication.folder, name, config, not options.recompute)

    names = unit_names(ingested.manifest.units, config)
    kept = kept_units(publication, config.hash, CODE_NUMBERS[STAGE], spark, options)
    return make_of_events(ingested, publication, names, kept, item, select_unit, spark, options)


def make_of_events(
    ingested: Ingested,
    publication: Publication,
    names: Mapping[str, Unit],
    published: Iterable[Unit],
    item: Callable[[str, Unit, SourceFile | Key], Any],
    make: Callable[[Any], Finished],
    spark: SparkOnDemand,
    options: Options,
) -> Selected:
    """Make a file of each ingested unit, as selection does.

    Args:
        ingested: The partition.
        publication: Where to.
        names: File → the ingested unit that it is made of.
        published: What is there already, and good.
        item: (name, ingested unit, where its events are) → what a task is told; it has ``source``, the ingested unit.
        make: What the task does.
        spark: Started only if there is something to do.
        options: What the command line wants.

    Raises:
        InvalidInputError: A file is gone, damaged, has changed, or holds values that it must not.
    """
    kept = {unit.outputs[0].path: unit for unit in published}
    bad = _known_bad(publication.previous, ingested.manifest.units, options)
    left_out = {file.source for file in bad}
    todo = {name: unit for name, unit in names.items() if name not in kept and unit.source not in left_out}
    logger.info("%d units: %d done before, %d to do", len(names), len(names) - len(todo), len(todo))
    origins, gone = find_events(ingested, todo.values(), spark, options)
    items = [item(name, unit, origins[unit.range]) for name, unit in todo.items() if unit.range in origins]
    new, failed = _run(items, make, spark, keep_going=options.quarantine)
    bad += gone + failed
    left_out = {file.source for file in bad}
    old = [unit for name, unit in kept.items() if name in names]
    units = [unit for unit in (*old, *(finished.unit for finished in new)) if unit.source not in left_out]
    made = [finished.unit for finished in new if not finished.adopted and finished.unit.source not in left_out]
    if bad and not units:
        raise InvalidInputError("every file is bad:\n" + "\n".join(file.reason for file in bad))
    new_events = sum(unit.counts["events"] for unit in made)
    return Selected(in_order(units), new_events, tuple(sorted(bad, key=lambda file: file.source)))


def _known_bad(previous: Manifest | None, units: Iterable[Unit], options: Options) -> list[BadFile]:
    """Files that were bad when they were read, and have not changed: to try them again, run without a quarantine."""
    if previous is None or options.recompute or not options.quarantine:
        return []
    checksums = {unit.source: unit.source_checksum for unit in units}
    return [bad for bad in previous.quarantined if checksums.get(bad.source) == bad.source_checksum]


def _run(
    items: Sequence[Any], make: Callable[[Any], Finished], spark: SparkOnDemand, *, keep_going: bool
) -> tuple[list[Finished], list[BadFile]]:
    if not items:
        return [], []
    outcome = run_on_spark(spark(), make, items, name="selecting", keep_going=keep_going)
    failed: dict[str, BadFile] = {}
    for number in sorted(outcome.bad, key=lambda number: items[number].source.entry_start, reverse=True):
        # Several units of a file may find it bad: the reason of its first stands.
        source = items[number].source
        failed[source.source] = BadFile(
            source=source.source, reason=outcome.bad[number], source_checksum=source.source_checksum
        )
    return list(outcome.results.values()), list(failed.values())


def select_unit(item: SelectItem) -> Finished:
    """Select the events of one range of entries and write their features, unless an earlier run did.

    Raises:
        InvalidInputError: The file is missing or damaged, or holds other events than its manifest says.
    """
    return adopt_or_make(item.folder, item.name, partial(write_selected, item), adopt=item.adopt)


def write_selected(item: SelectItem, path: Path) -> Unit:
    """Write the selected events of one range of entries, and return its record.

    Raises:
        InvalidInputError: As of :func:`select_unit`.
    """
    source, tally = item.source, Tally(item.config.btag_mask[sample_of(item.source.source)])

    def passed() -> Iterator[SelectedBatch]:
        for batch in item.batches():
            entries = np.arange(batch.entry_start, batch.entry_start + len(batch.weight))
            keys = event_keys(source.source, entries)
            events = vary(batch.events, keys, item.config, btag_mask=tally.btag_mask)
            selected = select_events(events, item.config, btag_mask=tally.btag_mask)
            tally.add(batch, selected)
            yield SelectedBatch.of(batch, selected)

    write_ordered(path, source.source, passed())
    if tally.counts["events"] != item.events:
        raise InvalidInputError(
            f"{item.origin}: {tally.counts['events']} events, its manifest says {item.events}; "
            "run ingest.py --recompute"
        )
    return Unit(
        source=source.source,
        source_bytes=source.source_bytes,
        source_checksum=source.source_checksum,
        entry_start=source.entry_start,
        entry_stop=source.entry_stop,
        counts=tally.counts,
        **weight_fields({cut: WeightSums.of(each) for cut, each in tally.weights.items()}),
        cross_section=source.cross_section,
        content=tally.content.hexdigest() if tally.counts[schema.CUTFLOW[-1]] else "",
        notes=tally.notes(),
        outputs=(),
    )


@dataclass
class Tally:
    """What a unit's record says of its events, added up."""

    btag_mask: int
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(schema.CUTFLOW, 0))
    weights: dict[str, list[float]] = field(default_factory=lambda: {cut: [] for cut in schema.CUTFLOW})
    content: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))
    other_bits: bool = False

    def add(self, batch: EventBatch, selected: SelectedEvents) -> None:
        """Count some more events."""
        for cut, passing in selected.passing.items():
            self.counts[cut] += int(passing.sum())
            self.weights[cut] += batch.weight[passing].tolist()
        self.content.update(_bytes_of(batch, selected))
        self.other_bits |= _has_other_bits(batch.events, self.btag_mask)

    def notes(self) -> tuple[str, ...]:
        """Remarks on the input."""
        return (f"Jet.BTag has bits beside the mask {self.btag_mask} (btag_mask)",) if self.other_bits else ()


def _bytes_of(batch: EventBatch, selected: SelectedEvents) -> bytes:
    """Who the selected events are, one after the other: entry, weight and high-level features."""
    rows = selected.rows
    columns: list[NDArray[Any]] = [
        (batch.entry_start + rows)[:, np.newaxis],
        batch.weight[rows, np.newaxis],
        selected.high_level.astype(np.float32),
    ]
    return np.hstack([values.view(np.uint8) for values in columns]).tobytes()  # (events, 8 + 4 + 56)


def _has_other_bits(events: Events, mask: int) -> bool:
    bits = int(np.bitwise_or.reduce(events["Jet"].leaves["BTag"], initial=np.uint32(0)))
    return bits & ~mask != 0


# --- publish -----------------------------------------------------------------------------------------------------


def selected_manifest(events_name: str, events: Manifest, selected: Selected, config: SelectionConfig) -> Manifest:
    """The manifest to publish.

    Args:
        events_name: Ingest's folder, relative to the base.
        events: The manifest there.
        selected: What became of its units.
        config: Cuts.
    """
    quarantined = sorted((*events.quarantined, *selected.quarantined), key=lambda bad: bad.source)
    warn_of_quarantined(selected.quarantined)
    return Manifest(
        stage=STAGE,
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        code=CODE_NUMBERS[STAGE],
        inputs={events_name: fingerprint(events)},
        units=selected.units,
        quarantined=tuple(quarantined),
        notes=tuple(sorted({*events.notes, *gather_notes(selected.units), *cross_section_notes(selected.units)})),
        code_version=code_version(),
    )


def cutflow(manifest: Manifest) -> dict[str, Any]:
    """Content of ``cutflow.json``: per sample and cut, events, weights and cross-section; the quarantined files."""
    content: dict[str, Any] = {}
    for sample in schema.SAMPLES:
        units = [unit for unit in manifest.units if sample_of(unit.source) == sample]
        if units:
            content[sample] = {cut: sum(unit.counts[cut] for unit in units) for cut in schema.CUTFLOW}
            sums = {cut: WeightSums.merge(unit.weight_sums(cut) for unit in units) for cut in schema.CUTFLOW}
            content[sample]["weighted"] = {cut: each.total for cut, each in sums.items()}
            content[sample]["negative_share"] = {cut: each.negative_share for cut, each in sums.items()}
            content[sample]["effective_events"] = {cut: each.effective_events for cut, each in sums.items()}
            content[sample]["cross_section"] = {cut: sample_cross_section(units, cut) for cut in schema.CUTFLOW}
    content["quarantined"] = [bad.model_dump() for bad in manifest.quarantined]
    return content


def write_cutflow(folder: Key, manifest: Manifest) -> None:
    """Write ``cutflow.json`` beside the manifest that it follows from, unless it is there already, and log it."""
    content = cutflow(manifest)
    for sample in schema.SAMPLES:
        if sample in content:
            logger.info("%s: %s", sample, ", ".join(f"{cut} {content[sample][cut]:,}" for cut in schema.CUTFLOW))
    key, text = folder / CUTFLOW_NAME, json.dumps(content, indent=1, default=asdict) + "\n"
    if key.stat() is None or key.read_text() != text:
        key.write_text(text)
