"""What a model decides about events: scores as :mod:`toposieve.io.scores` has them, and who passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve import schema
from toposieve.io.manifests import Unit
from toposieve.io.scores import scores_schema
from toposieve.io.store import Key

DECISIONS_DIRECTORY = "decisions"
NO_LABEL = -1
"""Label of events of what is none of the model's classes."""

NOT_SELECTED = "not_selected"
"""Count of raw events that the selection drops: there is no decision on them."""


def decisions_folder(base: Key, name: str, version: int, events: str) -> Key:
    """``{base}/decisions/{name}/{version}/{events}``: a version's about a day, or ``datasets/{dataset}``."""
    return base / DECISIONS_DIRECTORY / name / f"{version:06d}" / events


def events_of(unit: Unit) -> int:
    """Events to read of a unit of what is decided on: those that were selected, or all."""
    return unit.counts.get(schema.CUTFLOW[-1], unit.counts["events"])


def passes_column(name: str) -> str:
    """The column that says whether an event passes as a class."""
    return f"passes_{name}"


def decisions_schema(classes: Sequence[str]) -> pa.Schema:
    """Columns of a file of decisions: those of scores, then one for each class."""
    known = scores_schema(classes)
    for name in classes:
        known = known.append(pa.field(passes_column(name), pa.bool_(), nullable=False))
    return known


def decisions_to_arrow(
    event_ids: Sequence[str],
    names: NDArray[np.str_],
    logits: NDArray[np.float32],
    passes: NDArray[np.bool_],
    classes: Sequence[str],
) -> pa.RecordBatch:
    """Rows of a file of decisions.

    Args:
        event_ids: "file id:entry", (events,).
        names: What they are of, (events,): a class of the model, or something else, :data:`NO_LABEL`.
        logits: (events, classes).
        passes: (events, classes).
        classes: The model's.
    """
    labels = np.full(len(event_ids), NO_LABEL, np.int8)
    for label, name in enumerate(classes):
        labels[names == name] = label
    columns = [pa.array(event_ids, pa.string()), pa.array(labels)]
    columns += [pa.array(np.ascontiguousarray(column)) for values in (logits, passes) for column in values.T]
    return pa.RecordBatch.from_arrays(columns, schema=decisions_schema(classes))
