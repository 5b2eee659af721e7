"""What evaluation takes of each event of a split: its row in the dataset's tables, and every run's scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.evaluation.inputs import ModelRun, TestData
from toposieve.evaluation.performance import Sample
from toposieve.io.event_tables import features_of, read_tables
from toposieve.io.scores import probabilities, read_scores
from toposieve.training.shards import signed_factors


@dataclass(frozen=True)
class Predictions:
    """What the report needs of every event of a split, in the order of the shards."""

    event_ids: pa.Array
    """(events,) "file id:entry"."""
    labels: npt.NDArray[np.int64]
    stored_weights: npt.NDArray[np.float32]
    """(events,) as the shards hold them: signed, of mean size 1 within each class of the training split."""
    weights: npt.NDArray[np.float64]
    """(events,) the same of mean 1; 0 in a class where they do not add up to more than 0."""
    features: npt.NDArray[np.float32]
    """(events, 14) high-level features in physical units; (events, 0) where scaling cannot be undone."""
    particles: npt.NDArray[np.int64]
    """(events,) number of particles."""
    pileup: npt.NDArray[np.float64]
    """(events,) number of pile-up interactions; NaN where it is not known."""
    scores: dict[str, npt.NDArray[np.float32]]
    """Label of a run → (events, classes), the probabilities."""
    classes: tuple[str, ...]
    """Of the dataset, in the order of their labels."""

    @property
    def sample(self) -> Sample:
        """The part that performance is measured from."""
        return Sample(self.labels, self.weights, self.scores, self.classes)

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """What is known of the events: features by name, in physical units, particles and pile-up."""
        known: dict[str, npt.NDArray[Any]] = dict(zip(schema.HIGH_LEVEL_FEATURES, self.features.T, strict=False))
        return known | {"particles": self.particles, "pileup": self.pileup}


def predict(data: TestData, runs: Sequence[ModelRun]) -> Predictions:
    """Join a split's events and the scores of every run.

    Raises:
        InvalidInputError: A table is damaged, its events are not those the manifest counts, or scores are missing, or
            of other events.
    """
    table = pa.concat_tables(read_tables(data.directory, data.manifest, data.split.name)).combine_chunks()
    labels = table["label"].to_numpy().astype(np.int64)
    _check_counts(data, labels)
    stored, factors = table["weight"].to_numpy(), np.array(signed_factors(data.manifest))
    ids = table["event_id"].combine_chunks()
    return Predictions(
        event_ids=ids,
        labels=labels,
        stored_weights=stored,
        weights=np.multiply(stored, factors[labels], dtype=np.float64),
        features=_features(data, table),
        particles=table["particles"].to_numpy().astype(np.int64),
        pileup=table["pileup"].to_numpy().astype(np.float64),
        scores={run.label: _probabilities(data, run, ids) for run in runs},
        classes=data.classes,
    )


def _features(data: TestData, table: pa.Table) -> npt.NDArray[np.float32]:
    if data.scaling is None:
        return np.empty((table.num_rows, 0), np.float32)
    return data.scaling.physical_high_level(features_of(table))


def _probabilities(data: TestData, run: ModelRun, event_ids: pa.Array) -> npt.NDArray[np.float32]:
    """The softmax of a run's scores, (events, classes)."""
    found = read_scores(run.scores, data.split.name)
    if not found.event_ids.equals(event_ids):
        raise InvalidInputError(
            f"{run.scores} holds scores of other {data.split.name} events than {data.directory}: score it again"
        )
    return probabilities(found.logits)


def _check_counts(data: TestData, labels: npt.NDArray[np.int64]) -> None:
    for label, (sample, expected) in enumerate(data.counts.items()):
        found = int((labels == label).sum())
        if found != expected:
            raise InvalidInputError(
                f"{data.directory}: its {data.split.name} shards hold {found} events of {sample}, its manifest lists "
                f"{expected}: prepare the dataset again"
            )


def write_parquet(path: Path, predictions: Predictions) -> None:
    """Write one row per test event: event id, label, weight, and each model's score of each class."""
    columns: dict[str, Any] = {
        "event_id": predictions.event_ids,
        "label": predictions.labels.astype(np.int8),
        "weight": predictions.weights.astype(np.float32),
    }
    for model, scores in predictions.scores.items():
        columns |= {f"{model}_{sample}": scores[:, label].copy() for label, sample in enumerate(predictions.classes)}
    pq.write_table(pa.table(columns), path, compression="zstd")
