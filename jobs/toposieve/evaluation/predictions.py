"""What the report needs of every test event: from the tables beside the shards, and from scores, made where missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
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
from toposieve.io.event_tables import read_table
from toposieve.io.manifests import fingerprint
from toposieve.io.scores import Scores, publish_scores, read_scores, scores_folder
from toposieve.io.store import Key
from toposieve.training.shards import signed_factors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """What the report needs of every test event, in the order of the shards."""

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
    """Model → probabilities, (events, classes)."""

    @property
    def sample(self) -> Sample:
        """The part that performance is measured from."""
        return Sample(self.labels, self.weights, self.scores)

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """What is known of the events: features by name, in physical units, particles and pile-up."""
        known: dict[str, npt.NDArray[Any]] = dict(zip(schema.HIGH_LEVEL_FEATURES, self.features.T, strict=False))
        return known | {"particles": self.particles, "pileup": self.pileup}


def predict(data: TestData, runs: Sequence[ModelRun]) -> Predictions:
    """The events of a split with the scores of each model, which are kept for the next time.

    Raises:
        InvalidInputError: A shard is damaged, its events are not those the manifest counts, or a score is not finite.
    """
    table = pa.concat_tables(
        read_table(shard.table, shard.events, shard.table_checksum) for shard in data.split.shards
    ).combine_chunks()
    labels, stored = table["label"].to_numpy().astype(np.int64), table["weight"].to_numpy()
    _check_counts(data, labels)
    scores = _scores(data, runs, table["event_id"].combine_chunks())
    factors = np.array(signed_factors(data.manifest))
    return Predictions(
        event_ids=table["event_id"].combine_chunks(),
        labels=labels,
        stored_weights=stored,
        weights=np.multiply(stored, factors[labels], dtype=np.float64),
        features=_features(data, table),
        particles=table["particles"].to_numpy().astype(np.int64),
        pileup=table["pileup"].to_numpy().astype(np.float64),
        scores={run.config.model: each.probabilities for run, each in zip(runs, scores, strict=True)},
    )


def _features(data: TestData, table: pa.Table) -> npt.NDArray[np.float32]:
    scaled = np.column_stack([table[name].to_numpy() for name in schema.HIGH_LEVEL_FEATURES])  # (events, 14)
    scaling = data.scaling
    return scaled * scaling.high_level_scale + scaling.high_level_offset if scaling else scaled[:, :0]


def _check_counts(data: TestData, labels: npt.NDArray[np.int64]) -> None:
    for sample, expected in data.counts.items():
        found = int((labels == schema.LABELS[sample]).sum())
        if found != expected:
            raise InvalidInputError(
                f"{data.directory}: its {data.split.name} shards hold {found} events of {sample}, its manifest lists "
                f"{expected}: prepare the dataset again"
            )


def _scores(data: TestData, runs: Sequence[ModelRun], event_ids: pa.Array) -> list[Scores]:
    """Those of each run: read, or made and kept."""
    folders = [scores_of(data, run) for run in runs]
    inputs = [_inputs(data, run) for run in runs]
    found = [read_scores(folder, of, event_ids) for folder, of in zip(folders, inputs, strict=True)]
    missing = [place for place, each in enumerate(found) if each is None]
    if missing:
        from toposieve.evaluation.scoring import reads_particles, score

        missing.sort(key=lambda place: reads_particles(runs[place]))
        for _, group in groupby(missing, key=lambda place: reads_particles(runs[place])):
            places = list(group)
            for place, (scores, seconds) in zip(
                places, score(data.split, [runs[place] for place in places], event_ids), strict=True
            ):
                publish_scores(folders[place], inputs[place], scores, seconds)
                found[place] = scores
    return [each for each in found if each is not None]


def scores_of(data: TestData, run: ModelRun) -> Key:
    """Where the scores of a run for a split lie."""
    return scores_folder(data.directory.parent.parent, data.directory.name, data.split.name, run.directory)


def _inputs(data: TestData, run: ModelRun) -> Mapping[str, str]:
    base = data.directory.parent.parent
    return {each.directory.relative_to(base): fingerprint(each.manifest) for each in (data, run)}


def write_parquet(path: Path, predictions: Predictions) -> None:
    """Write one row per test event: event id, label, weight, and each model's score of each class."""
    columns: dict[str, Any] = {
        "event_id": predictions.event_ids,
        "label": predictions.labels.astype(np.int8),
        "weight": predictions.weights.astype(np.float32),
    }
    for model, scores in predictions.scores.items():
        columns |= {f"{model}_{sample}": scores[:, label].copy() for sample, label in schema.LABELS.items()}
    pq.write_table(pa.table(columns), path, compression="zstd")
