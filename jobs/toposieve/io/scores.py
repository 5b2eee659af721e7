"""Scores of a dataset's events: what any classifier writes, and evaluation reads.

They are numbers whose softmax is the probability: logits of a network, logarithms of a tree's probabilities. Nothing
else of the events is here: the dataset's tables have their features, weights and leptons, row for row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.errors import InvalidInputError
from toposieve.io.dataset_classes import classes_of
from toposieve.io.event_tables import read_tables
from toposieve.io.manifests import Manifest, Unit, check_listed, fingerprint, read_manifest
from toposieve.io.names import unit_name
from toposieve.io.parquet import event_writer, open_parquet
from toposieve.io.publication import Publication
from toposieve.io.stages import finish
from toposieve.io.store import Key
from toposieve.io.units import Finished, adopt_or_make
from toposieve.version import code_version

STAGE = "score"
SCORED_SPLITS = schema.SPLITS[1:]


def scores_schema(classes: Sequence[str]) -> pa.Schema:
    """Columns of a file of scores.

    Args:
        classes: Of the dataset, in the order of their labels.
    """
    columns = {"event_id": pa.string(), "label": pa.int8(), **{score_column(name): pa.float32() for name in classes}}
    return pa.schema([pa.field(name, dtype, nullable=False) for name, dtype in columns.items()])


def score_column(name: str) -> str:
    """The column of a class's scores."""
    return f"score_{name}"


PERMUTED = "permuted"
"""What a classifier says of some test events of which something is another event's, beside its scores of splits."""


def permuted_schema(classes: Sequence[str]) -> pa.Schema:
    """Columns of a file of these scores: all events for one feature, then all for the next."""
    columns = {"permuted": pa.string(), "row": pa.int32()}  # what; of the event in the test split
    columns |= {score_column(name): pa.float32() for name in classes}
    return pa.schema([pa.field(name, dtype, nullable=False) for name, dtype in columns.items()])


@dataclass(frozen=True)
class Scores:
    """Scores of one split, in the order of its shards."""

    event_ids: pa.Array
    """(events,) "file id:entry"."""
    labels: NDArray[np.int64]
    """(events,)."""
    logits: NDArray[np.float32]
    """(events, classes), of which the softmax is the probability."""


@dataclass(frozen=True)
class PermutedScores:
    """Scores of the same test events, each time with another feature exchanged among them."""

    rows: NDArray[np.int64]
    """(events,) their positions in the test split, increasing."""
    logits: Mapping[str, NDArray[np.float32]]
    """What is exchanged → (events, classes), of which the softmax is the probability."""


@dataclass(frozen=True)
class LazyScores(Mapping[str, Scores]):
    """Each of :data:`SCORED_SPLITS` → its scores, made when they are asked for."""

    make: Callable[[str], Scores]

    def __getitem__(self, split: str) -> Scores:
        """Make them."""
        return self.make(split)

    def __iter__(self) -> Iterator[str]:
        """The splits."""
        return iter(SCORED_SPLITS)

    def __len__(self) -> int:
        """How many there are."""
        return len(SCORED_SPLITS)


def scores_folder(base: Key, dataset: str, run: Key) -> Key:
    """Where the scores of a run, ``{base}/models/{model}/{run}``, on a dataset are."""
    return base / "scores" / dataset / run.parent.name / run.name


def publish_scores(
    base: Key,
    dataset: Key,
    run: Key,
    scores: Mapping[str, Scores],
    permuted: Callable[[], PermutedScores] | None = None,
    *,
    recompute: bool = False,
) -> Key:
    """Publish what a run says of a dataset's events, split by split; what is there already is not asked for.

    Args:
        base: Where all data lives.
        dataset: The dataset's folder.
        run: The run's folder, which has a manifest.
        scores: Each of :data:`SCORED_SPLITS` → its scores, which may be made when they are asked for.
        permuted: Makes those of permuted test events; without it, they are left out.
        recompute: Make all anew.

    Returns:
        Their folder.

    Raises:
        InvalidInputError: Dataset or run is not there, or scores are not finite, or not those of the split's events.
    """
    started, folder = time.monotonic(), scores_folder(base, dataset.name, run)
    content = read_manifest(dataset)
    inputs = {dataset.relative_to(base): fingerprint(content), run.relative_to(base): fingerprint(read_manifest(run))}
    with Publication(folder) as publication:
        reusable = [] if recompute else publication.reusable("", CODE_NUMBERS[STAGE])
        kept = {unit.outputs[0].path: Finished(unit, adopted=True) for unit in reusable}
        makers = {split: partial(_write, scores, split, dataset, content, run) for split in SCORED_SPLITS}
        if permuted is not None:
            makers[PERMUTED] = partial(
                _write_permuted, permuted, classes_of(content), f"{run}: its scores of permuted {dataset.name}"
            )
        finished = []
        for source, make in makers.items():
            name = unit_name(source, CODE_NUMBERS[STAGE], *inputs.values())
            finished.append(kept.get(name) or adopt_or_make(folder, name, make, adopt=not recompute))
        manifest = Manifest(
            stage=STAGE,
            config_hash="",
            config={},
            code=CODE_NUMBERS[STAGE],
            inputs=inputs,
            units=tuple(each.unit for each in finished),
            code_version=code_version(),
        )
        made = sum(each.unit.counts.get("events", 0) for each in finished if not each.adopted)
        finish(publication, manifest, made, started)
    return folder


def _write(scores: Mapping[str, Scores], split: str, dataset: Key, content: Manifest, run: Key, path: Path) -> Unit:
    """Write a split's file after a check of its events."""
    found = scores[split]
    where = f"{run}: its scores of {dataset.name}'s {split} split"
    classes = classes_of(content)
    _check_classes(found, run, dataset, classes)
    _check_events(found, pa.concat_tables(read_tables(dataset, content, split)), where)
    _check_finite(found.logits, where, lambda place: found.event_ids[place])
    columns = [found.event_ids, pa.array(found.labels, pa.int8()), *map(pa.array, np.ascontiguousarray(found.logits.T))]
    known = scores_schema(classes)
    with event_writer(path, known) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=known))
    return _unit(split, len(found.labels), {"events": len(found.labels)})


def _write_permuted(make: Callable[[], PermutedScores], classes: Sequence[str], where: str, path: Path) -> Unit:
    """Write the file of permuted events after a check."""
    found, known = make(), permuted_schema(classes)
    for name, logits in found.logits.items():
        _check_finite(logits, f"{where} {name}", lambda place: f"in row {found.rows[place]}")
    with event_writer(path, known) as writer:
        for name, logits in found.logits.items():
            columns = [pa.array([name] * len(logits)), pa.array(found.rows, pa.int32())]
            columns += map(pa.array, np.ascontiguousarray(logits.T))
            writer.write_table(pa.Table.from_arrays(columns, schema=known))
    return _unit(PERMUTED, len(found.rows), {PERMUTED: len(found.rows)})


def _unit(source: str, events: int, counts: dict[str, int]) -> Unit:
    return Unit(source=source, source_checksum="", entry_start=0, entry_stop=events, counts=counts, outputs=())


def _check_finite(logits: NDArray[np.float32], where: str, name: Callable[[int], object]) -> None:
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        first = name(int(bad[0]))
        raise InvalidInputError(f"{where} are NaN or infinite for {len(bad)} events, the first {first}: train it again")


def _check_classes(found: Scores, run: Key, dataset: Key, classes: Sequence[str]) -> None:
    count = found.logits.shape[1]
    if count != len(classes):
        raise InvalidInputError(
            f"{run} gives scores of {count} classes, but {dataset} has {len(classes)} ({', '.join(classes)}): "
            "train on that dataset"
        )


def _check_events(found: Scores, expected: pa.Table, where: str) -> None:
    if len(found.logits) != expected.num_rows:
        raise InvalidInputError(f"{where} are {len(found.logits)}, not {expected.num_rows}: score it again")
    same_ids = pa.chunked_array([found.event_ids], pa.string()).equals(expected["event_id"])
    if not same_ids or not np.array_equal(found.labels, expected["label"].to_numpy()):
        raise InvalidInputError(f"{where} are of other events, or in another order: score it again")


def read_scores(folder: Key, split: str) -> Scores:
    """Scores of one split.

    Args:
        folder: As :func:`scores_folder` gives it.
        split: One of :data:`SCORED_SPLITS`.

    Raises:
        InvalidInputError: There are none of this split, they are damaged, lack a class, or are of another dataset or
            run than is there now.
    """
    unit, classes = _find(folder, split)
    if unit is None:
        raise InvalidInputError(f"{folder} holds no scores of the {split} split: score that, too")
    table = _read(folder, unit, scores_schema(classes))
    labels = table["label"].to_numpy().astype(np.int64)
    return Scores(table["event_id"].combine_chunks(), labels, _logits_of(table, classes))


def read_permuted_scores(folder: Key) -> PermutedScores | None:
    """Scores of permuted test events; None where whoever scored made none.

    Raises:
        InvalidInputError: They are damaged, lack a class, or are of another dataset or run than is there now.
    """
    unit, classes = _find(folder, PERMUTED)
    if unit is None:
        return None
    table, events = _read(folder, unit, permuted_schema(classes)), unit.counts[PERMUTED]
    names = table["permuted"].to_pylist()[::events]
    parts = [table.slice(number * events, events) for number in range(len(names))]
    rows = table["row"].to_numpy()[:events].astype(np.int64)
    return PermutedScores(rows, {name: _logits_of(part, classes) for name, part in zip(names, parts, strict=True)})


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The softmax of scores, (events, classes)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _find(folder: Key, source: str) -> tuple[Unit | None, Sequence[str]]:
    """What there is of a split, and the dataset's classes."""
    manifest = read_manifest(folder)
    base, dataset = folder.parent.parent.parent.parent, f"datasets/{folder.parent.parent.name}"
    if dataset not in manifest.inputs:
        raise InvalidInputError(f"{folder} holds scores of {', '.join(manifest.inputs)}, not of {dataset}: score that")
    inputs = {name: read_manifest(base / name) for name in manifest.inputs}
    for name, known in manifest.inputs.items():
        if fingerprint(inputs[name]) != known:
            raise InvalidInputError(f"{folder} holds scores of another {name} than is there now: score it again")
    unit = next((unit for unit in manifest.units if manifest.stage == STAGE and unit.source == source), None)
    return unit, classes_of(inputs[dataset])


def _read(folder: Key, unit: Unit, columns: pa.Schema) -> pa.Table:
    with open_parquet(check_listed(folder, unit.outputs[0]), columns) as file:
        return file.read(use_threads=False).combine_chunks()


def _logits_of(table: pa.Table, classes: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([table[score_column(name)].to_numpy() for name in classes], axis=1)
