"""Runs of tree models: each is a folder below ``models``, like a network's, and writes scores."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from toposieve import latency
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import TreeConfig
from toposieve.event_keys import text_keys
from toposieve.io.content_folders import upload
from toposieve.io.dataset_classes import classes_of
from toposieve.io.event_tables import features_of
from toposieve.io.manifests import Manifest, Unit, fingerprint
from toposieve.io.publication import Publication
from toposieve.io.scores import LazyScores, PermutedScores, Scores, publish_scores
from toposieve.io.store import Key
from toposieve.permutation import TABLE_EVENTS, exchanged_features, sample_rows
from toposieve.text_hash import text_hash
from toposieve.training.runs import METRICS_FILE, finished_run, results_of
from toposieve.training.shards import read_listed
from toposieve.tuning.tree_models import (
    MODELS,
    Classifier,
    TreeData,
    logits_of,
    results_on,
    saying_what_cannot_be_read,
)
from toposieve.version import code_version

STAGE = "train_trees"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TreeRun:
    """One model on one dataset."""

    base: Key
    data: TreeData
    model: str
    config: TreeConfig

    @property
    def keys(self) -> dict[str, Any]:
        """The model's keys of the configuration, without its name before them."""
        return self.config.keys_of(self.model)

    @property
    def config_hash(self) -> str:
        """Of these."""
        return text_hash(json.dumps(self.keys, sort_keys=True))

    @property
    def folder(self) -> Key:
        """``{base}/models/{model}/{run}``."""
        run = text_hash(f"{fingerprint(self.data.manifest)} {self.config_hash} {CODE_NUMBERS[STAGE]}")
        return self.base / "models" / self.model / run

    def train(self, spark: Callable[[], SparkSession]) -> None:
        """Train, publish and score, but for what is there already.

        Raises:
            InvalidInputError: The dataset is damaged.
        """
        logger.info("training %s on %s, results in %s", self.model, self.data.directory, self.folder)
        manifest, kind = finished_run(self.folder, STAGE), MODELS[self.model]
        if manifest is not None:
            logger.info("complete already: nothing to do")
            content = read_listed(self.folder, results_of(manifest)[kind.file]).encode()
        else:
            with saying_what_cannot_be_read(self.data):
                content = kind.fit(spark(), self.data, self.keys)
        classify = kind.load(content)
        if manifest is None:
            manifest = self._publish(content, classify)
        scores = LazyScores(partial(self.scores, classify))
        permuted = partial(self.permuted_scores, classify)
        folder = publish_scores(self.base, self.data.directory, self.folder, scores, permuted)
        if latency.read_latency(folder) is None:
            latency.write_latency(folder, self.latency(classify))
        metrics = json.loads(read_listed(self.folder, results_of(manifest)[METRICS_FILE]))
        shown = (f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items() if isinstance(value, float))
        logger.info("done: %s: %s", self.model, ", ".join(shown))

    def scores(self, classify: Classifier, split: str) -> Scores:
        """Logarithms of the probabilities of a split's events."""
        table = self.data.table(split).combine_chunks()
        labels = table["label"].to_numpy().astype(np.int64)
        return Scores(table["event_id"].combine_chunks(), labels, logits_of(classify, features_of(table)))

    def permuted_scores(self, classify: Classifier) -> PermutedScores:
        """The same of some test events, of which one feature after the other is another event's."""
        table = self.data.table("test")
        keys = text_keys(table["event_id"].to_pylist())
        rows = sample_rows(keys, TABLE_EVENTS)
        changed = exchanged_features(features_of(table)[rows], keys[rows])
        return PermutedScores(rows, {name: logits_of(classify, features) for name, features in changed})

    def latency(self, classify: Classifier) -> list[dict[str, float]]:
        """How long the model takes for batches of test events."""
        features = features_of(self.data.table("test"))

        def caller(size: int) -> Callable[[], object]:
            events = np.resize(features, (size, features.shape[1]))
            return lambda: classify(events)

        return latency.measure({size: caller(size) for size in latency.TABLE_BATCHES})

    def _publish(self, content: bytes, classify: Classifier) -> Manifest:
        kind, dataset = MODELS[self.model], self.data.directory
        results = results_on(self.data.table("validation"), classes_of(self.data.manifest), classify)
        metrics = {"model": self.model, "bytes": len(content)} | results
        with Publication(self.folder) as publication, TemporaryDirectory(prefix="toposieve-") as scratch:
            (Path(scratch) / kind.file).write_bytes(content)
            (Path(scratch) / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
            files = upload(Path(scratch), (kind.file, METRICS_FILE), self.folder)
            events, name = self.data.events, dataset.relative_to(self.base)
            unit = Unit(
                source=name,
                source_checksum=fingerprint(self.data.manifest),
                entry_start=0,
                entry_stop=events,
                counts={"train": events},
                outputs=files,
            )
            manifest = Manifest(
                stage=STAGE,
                config_hash=self.config_hash,
                config={"model": self.model, **self.config.of(self.model)},
                code=CODE_NUMBERS[STAGE],
                inputs={name: fingerprint(self.data.manifest)},
                units=(unit,),
                code_version=code_version(),
            )
            return publication.publish(manifest)
