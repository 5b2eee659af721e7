"""Scores of a classifier for the events of a dataset: what whoever classifies hands to the evaluation.

A row an event, in the order of the split's shards; of each class a number, of which the softmax is the probability:
logits of a network, logarithms of the probabilities of a tree. All else of an event is in the tables beside the shards.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.errors import InvalidInputError
from toposieve.io.content_folders import upload
from toposieve.io.manifests import Manifest, Unit, check_listed, read_manifest_if_any
from toposieve.io.parquet import open_parquet
from toposieve.io.publication import Publication, is_up_to_date, write_timing
from toposieve.io.store import Key
from toposieve.version import code_version

STAGE = "score"
NAME = "scores.parquet"
LEAST_PROBABILITY = 1e-7
"""Of a classifier that gives probabilities, none is taken for less."""

SCORES_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        *(pa.field(f"score_{sample}", pa.float32(), nullable=False) for sample in schema.SAMPLES),
    ]
)
"""Columns of a file of scores."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scores:
    """A classifier's scores of one split."""

    event_ids: pa.Array
    """(events,) ``{file id}:{entry}``."""
    logits: NDArray[np.float32]
    """(events, classes)."""

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """(events, classes)."""
        powers = np.exp(self.logits - self.logits.max(axis=1, keepdims=True), dtype=np.float64)
        probabilities: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return probabilities


def logarithms(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scores of a classifier that gives probabilities, (events, classes)."""
    logits: NDArray[np.float32] = np.log(np.maximum(probabilities, LEAST_PROBABILITY)).astype(np.float32)
    return logits


def scores_folder(base: Key, dataset: str, split: str, run: Key) -> Key:
    """``{base}/scores/{dataset}/{split}/{model}/{run}``: where the scores of a run for a split lie."""
    return base / "scores" / dataset / split / run.parent.name / run.name


def publish_scores(folder: Key, inputs: Mapping[str, str], scores: Scores, seconds: float) -> None:
    """Write scores.

    Args:
        folder: Where (:func:`scores_folder`).
        inputs: Folder, relative to the base, → fingerprint of its manifest: of dataset and run.
        scores: Of all events of the split.
        seconds: How long it took to score them.

    Raises:
        InvalidInputError: A score is NaN or infinite.
    """
    bad = np.flatnonzero(~np.isfinite(scores.logits).all(axis=1))
    if len(bad):
        model, split = folder.parent.name, folder.parent.parent.name
        raise InvalidInputError(
            f"{model} gives NaN or infinite scores for {len(bad)} {split} events, the first "
            f"{scores.event_ids[int(bad[0])]}: train it again"
        )
    columns = [scores.event_ids, *(pa.array(column) for column in scores.logits.T)]
    with Publication(folder) as publication, TemporaryDirectory(prefix="toposieve-") as scratch:
        pq.write_table(pa.Table.from_arrays(columns, schema=SCORES_SCHEMA), f"{scratch}/{NAME}", compression="zstd")
        unit = Unit(
            source=next(iter(inputs)),
            source_checksum="",
            entry_start=0,
            entry_stop=len(scores.logits),
            counts={"events": len(scores.logits)},
            outputs=upload(Path(scratch), [NAME], folder),
        )
        manifest = Manifest(
            stage=STAGE,
            config_hash="",
            config={},
            code=CODE_NUMBERS[STAGE],
            inputs=dict(inputs),
            units=(unit,),
            code_version=code_version(),
        )
        if not is_up_to_date(publication.previous, manifest):
            publication.publish(manifest)
        write_timing(folder, seconds=seconds, events=len(scores.logits))


def read_scores(folder: Key, inputs: Mapping[str, str], event_ids: pa.Array) -> Scores | None:
    """Scores that are there, of these inputs; None if there are none, or others.

    Args:
        folder: Where (:func:`scores_folder`).
        inputs: As for :func:`publish_scores`.
        event_ids: Of the split's events, in order.

    Raises:
        InvalidInputError: They are of other events or classes, or the file is damaged.
    """
    manifest = read_manifest_if_any(folder)
    if manifest is None or manifest.code != CODE_NUMBERS[STAGE] or manifest.inputs != dict(inputs):
        return None
    [file] = manifest.outputs()
    try:
        key = check_listed(folder, file)
    except InvalidInputError as error:
        logger.warning("%s; scoring again", error)
        return None
    with open_parquet(key, SCORES_SCHEMA, whole=True) as parquet:
        table = parquet.read(use_threads=False)
    if not table["event_id"].combine_chunks().equals(event_ids):
        raise InvalidInputError(f"{key} has scores of other events than {inputs}: remove {folder}, and score again")
    return Scores(event_ids, np.column_stack([table[name].to_numpy() for name in SCORES_SCHEMA.names[1:]]))
