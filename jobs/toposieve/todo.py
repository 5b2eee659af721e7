"""What each Spark job would have to do now, for its plan: looked up without Spark, and without writing anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import DecisionConfig, IngestConfig, SelectionConfig
from toposieve.cost import Work
from toposieve.errors import InvalidInputError
from toposieve.io import datasets
from toposieve.io.decisions import NOT_SELECTED, events_of
from toposieve.io.delphes import SourceFile
from toposieve.io.manifests import Unit
from toposieve.io.publication import Publication
from toposieve.io.raw import FoundFile, Ingested, read_known, still_known
from toposieve.io.root_faults import bad_file
from toposieve.io.root_files import open_root, parse
from toposieve.io.store import Key
from toposieve.preprocessing import class_sizes
from toposieve.simulation.campaign import Campaign, open_sample
from toposieve.simulation.library import block_sizes, library_folder, library_hash
from toposieve.spark.balance import number_of_tasks
from toposieve.spark.ingestion import unit_entries

EVENT_BYTES = 17_000
"""About what an event takes in a ROOT file that nobody has looked into yet."""
HOPED_SHARE = 0.6
"""About so many events pass the selection, before anything tells."""
FILES_TRIED = 5
"""Files that are tried for their number of branches: of a day that is gone, not each is asked for."""

Works = dict[str, Work]
"""Stage → what it has to do."""


def ingest_work(
    raw: Key, files: Sequence[FoundFile], publication: Publication, config: IngestConfig, *, recompute: bool
) -> Works:
    """Files to inspect, and events to store of those that are new, if that is asked for.

    Args:
        raw: The folder of all raw files.
        files: What is there.
        publication: Ingest's, looked at.
        config: Its configuration.
        recompute: Whether everything is made anew.
    """
    known, new = _known(raw, files, publication.folder)
    kept = {unit.source for unit in _kept(publication, config.hash, "ingest", recompute) if unit.outputs}
    stored = [file for file in files if config.store_events and (file.id not in known or file.id not in kept)]
    store = _read_all(raw, stored, known, config)
    return {"ingest": _look_into(raw, new), "store events": replace(store, written=store.events)}


def _known(raw: Key, files: Sequence[FoundFile], *folders: Key) -> tuple[dict[str, SourceFile], list[FoundFile]]:
    """What was inspected and is the same now, by file id, and the other files; one of the folders remembers it."""
    known: dict[str, SourceFile] = {}
    for folder in folders:
        known |= still_known(files, read_known(folder, raw))
    return known, [file for file in files if file.id not in known]


def _look_into(raw: Key, files: Sequence[FoundFile]) -> Work:
    return Work(len(files), len(files), 0, _size(files), branches(raw, [file.id for file in files]))


def _read_all(raw: Key, files: Sequence[FoundFile], known: Mapping[str, SourceFile], config: IngestConfig) -> Work:
    events = [known[file.id].entries if file.id in known else max(file.size, 0) // EVENT_BYTES for file in files]
    sizes = zip(events, files, strict=True)
    units = [max(1, math.ceil(each / unit_entries(each, file.size, config))) for each, file in sizes]
    opened = [file.id for file, times in zip(files, units, strict=True) for _ in range(times)]
    return Work(len(files), len(opened), sum(events), _size(files), branches(raw, opened)).balanced()


def _size(files: Sequence[FoundFile]) -> int:
    return sum(max(file.size, 0) for file in files)


def branches(raw: Key, opened: Sequence[str]) -> int:
    """Branches that are parsed, if all files have as many as the first that can be read of the first few.

    Args:
        raw: The folder of all raw files.
        opened: File of each unit: every one parses its own anew.
    """
    for file in islice(dict.fromkeys(opened), FILES_TRIED):
        with suppress(InvalidInputError), bad_file(file, ""), open_root(raw / file) as root:
            return len(opened) * len(parse(root, schema.TREE_NAME).keys())
    return 0


def select_work(ingested: Ingested, publication: Publication, config: SelectionConfig, *, recompute: bool) -> Works:
    """Ingested units that are not selected yet.

    Args:
        ingested: What there is.
        publication: Select's, looked at.
        config: Cuts.
        recompute: Whether everything is made anew.
    """
    done = {(unit.range, unit.input) for unit in _kept(publication, config.hash, "select", recompute)}
    todo = [unit for unit in ingested.manifest.units if (unit.range, unit.input) not in done]
    events = sum(unit.entry_stop - unit.entry_start for unit in todo)
    of_root = [unit for unit in todo if not unit.outputs]  # of others, the stored events are read
    size = sum({unit.source: unit.source_bytes for unit in of_root}.values())
    size += sum(file.bytes for unit in todo for file in unit.outputs)
    parsed, written = branches(ingested.raw, [unit.source for unit in of_root]), round(HOPED_SHARE * events)
    sources = {unit.source for unit in todo}
    return {"select": Work(len(sources), len(todo), events, size, parsed, written).balanced()}


def prepare_work(
    inputs: datasets.SelectedInputs, publication: Publication, config: datasets.DatasetConfig, *, recompute: bool
) -> Works:
    """Events that a dataset takes, unless it is complete.

    Args:
        inputs: Selected partitions.
        publication: The dataset's, looked at.
        config: Its configuration.
        recompute: Whether everything is made anew.

    Raises:
        InvalidInputError: A sample has no selected event.
    """
    if datasets.is_complete(publication, _kept(publication, config.hash, datasets.STAGE, recompute), inputs):
        return {}
    available = {sample: counts[schema.CUTFLOW[-1]] for sample, counts in inputs.cutflow().items()}
    files = [file for each in inputs.units for file in each.unit.outputs]
    events = sum(class_sizes(available, config.preparation).values())
    size, tasks = sum(file.bytes for file in files), number_of_tasks(len(files), sum(available.values()))
    return {"prepare": Work(len(files), len(files), events, size, written=events, tasks=tasks)}


def decide_work(
    units: Mapping[str, Unit], publication: Publication, config: DecisionConfig, *, recompute: bool
) -> Works:
    """Units of selected events, or of a dataset, that a model has not decided on yet.

    Args:
        units: File that each of them becomes → the unit.
        publication: Of the decisions, looked at.
        config: How the model decides.
        recompute: Whether everything is made anew.
    """
    done = {unit.outputs[0].path for unit in _kept(publication, config.hash, "decide", recompute)}
    todo = [unit for name, unit in units.items() if name not in done]
    events = sum(events_of(unit) for unit in todo)
    size = sum(file.bytes for unit in todo for file in unit.outputs)
    return {"decide": Work(len(todo), len(todo), events, size, written=events).balanced()}


def decide_raw_work(
    raw: Key,
    files: Sequence[FoundFile],
    ingested: Key,
    publication: Publication,
    config: DecisionConfig,
    *,
    recompute: bool,
) -> Works:
    """Raw files to inspect, to select and to decide on, of those that a model has not decided on yet.

    Args:
        raw: The folder of all raw files.
        files: What is there.
        ingested: Ingest's output folder, which may remember what some of them hold.
        publication: Of the decisions, looked at.
        config: How the model decides.
        recompute: Whether everything is made anew.
    """
    known, new = _known(raw, files, publication.folder, ingested)
    kept = _kept(publication, config.hash, "decide", recompute)
    done = {unit.source for unit in kept if NOT_SELECTED in unit.counts}  # others are of selected events
    todo = [file for file in files if file.id not in known or file.id not in done]
    select = _read_all(raw, todo, known, IngestConfig())
    events = round(HOPED_SHARE * select.events)
    decide = Work(0, select.units, events, written=events, tasks=select.tasks)
    return {"ingest": _look_into(raw, new), "select": select, "decide": decide}


def simulate_work(campaign: Campaign, publications: dict[str, Publication]) -> Works:
    """Events that the samples lack, and the pile-up library if that is not there.

    Args:
        campaign: What to simulate.
        publications: Of each sample, looked at.
    """
    works, config = {}, campaign.config
    for sample in campaign.samples:
        progress = open_sample(campaign, sample, publications[sample], replace=True).progress
        if progress.files() is None:
            share = progress.total("selected") / (progress.total("events") or 1) or HOPED_SHARE
            missing = max(1, progress.target - progress.total("selected"))
            files = math.ceil(missing / share / campaign.events_in_file(sample))
            works[f"simulate {sample}"] = Work(0, files, missing, written=round(missing / share))
    if works and config.pileup > 0:
        library = Publication(library_folder(campaign.raw, config)).look()
        blocks = _kept(library, library_hash(config), "simulate", campaign.recompute)
        lacking = config.pileup_library_events - sum(unit.counts["events"] for unit in blocks)
        return {"pile-up library": Work(0, len(block_sizes(lacking)), lacking, written=lacking), **works}
    return works


def _kept(publication: Publication, config_hash: str, stage: str, recompute: bool) -> list[Unit]:
    """Units that are published; those that a killed run has left unpublished are not looked for."""
    return [] if recompute else publication.reusable(config_hash, CODE_NUMBERS[stage])
