"""What a model decides about selected events: scores as :mod:`toposieve.io.scores` has them, and who passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve.io.scores import scores_schema
from toposieve.io.store import Key

DECISIONS_DIRECTORY = "decisions"
NO_LABEL = -1
"""Label of events of a sample that is none of the model's classes."""


def decisions_folder(base: Key, name: str, version: int, selected: str) -> Key:
    """``{base}/decisions/{name}/{version}/{selected}``: those of a version about one folder of selected events."""
    return base / DECISIONS_DIRECTORY / name / f"{version:06d}" / selected


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
    event_ids: Sequence[str], label: int, logits: NDArray[np.float32], passes: NDArray[np.bool_], classes: Sequence[str]
) -> pa.RecordBatch:
    """Rows of a file of decisions.

    Args:
        event_ids: "file id:entry", (events,).
        label: Of all of them, or :data:`NO_LABEL`.
        logits: (events, classes).
        passes: (events, classes).
        classes: The model's.
    """
    labels = np.full(len(event_ids), label, np.int8)
    columns = [pa.array(event_ids, pa.string()), pa.array(labels)]
    columns += [pa.array(np.ascontiguousarray(column)) for values in (logits, passes) for column in values.T]
    return pa.RecordBatch.from_arrays(columns, schema=decisions_schema(classes))
