"""Tree models of the high-level features: a random forest and XGBoost on Spark's data, LightGBM in one of its tasks.

Each is a run below ``models``, like a network's, and writes scores. The same events in the same order, weights whose
sums are exact, and one thread to a model make it the same again whatever the master.
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from sklearn.metrics import roc_auc_score

from toposieve import latency, schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import TreeConfig
from toposieve.errors import InvalidInputError
from toposieve.event_keys import text_keys
from toposieve.io.content_folders import upload
from toposieve.io.dataset_classes import classes_of
from toposieve.io.event_tables import features_of, read_tables
from toposieve.io.manifests import Manifest, Unit, fingerprint, read_manifest
from toposieve.io.publication import Publication
from toposieve.io.scores import LazyScores, PermutedScores, Scores, publish_scores
from toposieve.io.store import Key
from toposieve.permutation import TABLE_EVENTS, exchanged_features, sample_rows
from toposieve.spark.run import job_pool, run_on_spark
from toposieve.text_hash import text_hash
from toposieve.training.runs import METRICS_FILE, finished_run, results_of
from toposieve.training.shards import read_listed
from toposieve.tuning.forest import arrays_of, probabilities, trees_of
from toposieve.tuning.trials import Fitted, Trial
from toposieve.version import code_version

STAGE = "train_trees"
LEAST_PROBABILITY = 1e-7
"""Of a class in scores, which are logarithms."""
WEIGHT_STEP = 2.0**-20
"""Weights are multiples of it in a fit, so that their sums are the same in any order."""
PARTITIONS = 8
"""Parts of the training data on Spark, whatever the master: the forest draws its events part by part."""
FOREST_MEMORY_MB = 64
"""Of the sums that a round of the forest holds."""
FITS_AT_ONCE = 8
"""Of a search: each has a thread that classifies the validation split in the end."""

Classifier = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Features (events, 14) → probabilities (events, classes)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TreeData:
    """A prepared dataset, as tree models take it."""

    directory: Key

    @cached_property
    def manifest(self) -> Manifest:
        """Of the dataset."""
        return read_manifest(self.directory)

    @cached_property
    def events(self) -> int:
        """Events of the training split, all of whose tables were read.

        Raises:
            InvalidInputError: It has none, or a table is missing or altered.
        """
        events = sum(len(table) for table in read_tables(self.directory, self.manifest, "train"))
        self._check(events, "train")
        return events

    def table(self, split: str) -> pa.Table:
        """All rows of a split, in order.

        Raises:
            InvalidInputError: It has none, or a table is missing or altered.
        """
        tables = list(read_tables(self.directory, self.manifest, split))
        self._check(sum(len(table) for table in tables), split)
        return pa.concat_tables(tables)

    def _check(self, events: int, split: str) -> None:
        if not events:
            raise InvalidInputError(f"{self.directory} has no {split} events: prepare it from more events")


def weights_of(table: pa.Table) -> NDArray[np.float64]:
    """Sizes of the weights, (events,)."""
    sizes: NDArray[np.float64] = np.abs(table["weight"].to_numpy().astype(np.float64))
    return np.asarray(np.round(sizes / WEIGHT_STEP) * WEIGHT_STEP)


# --- the three models: fit → file, and file → probabilities ---------------------------------------------------------


def frame_of(spark: SparkSession, data: TreeData, partitions: int = PARTITIONS) -> DataFrame:
    """The training split as ``label``, ``weight`` and the features, in some parts, in order; tasks read their own.

    Raises:
        InvalidInputError: There is none, or a table is missing or altered.
    """
    ends = np.linspace(0, data.events, partitions + 1).astype(int).tolist()
    parts = [(pickle.dumps((data, start, stop)),) for start, stop in pairwise(ends)]
    types = ", ".join(f"`{name}` double" for name in ("label", "weight", *schema.HIGH_LEVEL_FEATURES))
    rows = spark.sparkContext.parallelize(parts, partitions)
    return spark.createDataFrame(rows, "part binary").mapInArrow(_events_of, types)


def _events_of(parts: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in parts:
        for part in batch["part"].to_pylist():
            data, start, stop = pickle.loads(part)
            for table in read_tables(data.directory, data.manifest, "train", start, stop):
                features = {name: table[name].cast("double") for name in schema.HIGH_LEVEL_FEATURES}
                columns = {"label": table["label"].cast("double"), "weight": weights_of(table), **features}
                yield from pa.table(columns).to_batches()


def fit_forest(spark: SparkSession, data: TreeData, keys: dict[str, Any]) -> bytes:
    """Spark ML's random forest, as JSON."""
    from pyspark.ml.classification import RandomForestClassifier
    from pyspark.ml.feature import VectorAssembler

    assembled = VectorAssembler(inputCols=list(schema.HIGH_LEVEL_FEATURES), outputCol="features")
    frame = assembled.transform(frame_of(spark, data)).select("features", "label", "weight").cache()
    forest = RandomForestClassifier(
        numTrees=keys["trees"],
        maxDepth=keys["depth"],
        seed=keys["seed"],
        weightCol="weight",
        maxMemoryInMB=FOREST_MEMORY_MB,
    )
    trees = trees_of(forest.fit(frame))
    frame.unpersist()
    return json.dumps(trees).encode()


def fit_xgboost(spark: SparkSession, data: TreeData, keys: dict[str, Any]) -> bytes:
    """XGBoost by one worker of Spark, as its JSON."""
    from xgboost.spark import SparkXGBClassifier

    model = SparkXGBClassifier(
        features_col=list(schema.HIGH_LEVEL_FEATURES),
        weight_col="weight",
        num_workers=1,
        n_estimators=keys["rounds"],
        learning_rate=keys["rate"],
        max_depth=keys["depth"],
        random_state=keys["seed"],
    ).fit(frame_of(spark, data, 1))  # it would shuffle several into one, in any order
    return bytes(model.get_booster().save_raw("json"))


@dataclass(frozen=True)
class _LightGbm:
    data: TreeData
    keys: dict[str, Any]
    events: int


def fit_lightgbm(spark: SparkSession, data: TreeData, keys: dict[str, Any]) -> bytes:
    """LightGBM in one task, as its text."""
    item = _LightGbm(data, keys, data.events)
    model: str = run_on_spark(spark, _fit_lightgbm, [item], name="LightGBM").results[0]
    return model.encode()


def _fit_lightgbm(item: _LightGbm) -> str:
    import lightgbm

    table, keys = item.data.table("train"), item.keys
    parameters = {
        "objective": "multiclass",
        "num_class": len(classes_of(item.data.manifest)),
        "learning_rate": keys["rate"],
        "num_leaves": keys["leaves"],
        "seed": keys["seed"],
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    events = lightgbm.Dataset(features_of(table), table["label"].to_numpy(), weight=weights_of(table))
    text: str = lightgbm.train(parameters, events, keys["rounds"]).model_to_string()
    return text


def _load_forest(model: bytes) -> Classifier:
    return partial(probabilities, [arrays_of(tree) for tree in json.loads(model)])


def _load_xgboost(model: bytes) -> Classifier:
    import xgboost

    booster = xgboost.Booster(model_file=bytearray(model))

    def classify(features: NDArray[np.float32]) -> NDArray[np.float64]:
        found = np.asarray(booster.inplace_predict(features), np.float64)
        # Of two classes it gives the second one's probability alone, (events,).
        return found if found.ndim == 2 else np.stack([1 - found, found], axis=1)

    return classify


def _load_lightgbm(model: bytes) -> Classifier:
    import lightgbm

    booster = lightgbm.Booster(model_str=model.decode())
    return lambda features: np.asarray(booster.predict(features, num_threads=1), np.float64)


@dataclass(frozen=True)
class TreeModel:
    """A kind of tree model."""

    file: str
    """Name of its model file."""
    fit: Callable[[SparkSession, TreeData, dict[str, Any]], bytes]
    """(session, dataset, its keys of the configuration) → content of the file."""
    load: Callable[[bytes], Classifier]
    """Content of the file → the model, ready to classify."""


MODELS = {
    "random_forest": TreeModel("model.json", fit_forest, _load_forest),
    "xgboost": TreeModel("model.json", fit_xgboost, _load_xgboost),
    "lightgbm": TreeModel("model.txt", fit_lightgbm, _load_lightgbm),
}
"""Each of :data:`toposieve.models.TREE_MODELS`."""


# --- runs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TreeRun:
    """One model on one dataset."""

    base: Key
    data: TreeData
    model: str
    config: TreeConfig

    @property
    def keys(self) -> dict[str, Any]:
        """The model's keys of the configuration."""
        return keys_of(self.config, self.model)

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
        return Scores(table["event_id"].combine_chunks(), labels, _logits(classify, features_of(table)))

    def permuted_scores(self, classify: Classifier) -> PermutedScores:
        """The same of some test events, of which one feature after the other is another event's."""
        table = self.data.table("test")
        keys = text_keys(table["event_id"].to_pylist())
        rows = sample_rows(keys, TABLE_EVENTS)
        changed = exchanged_features(features_of(table)[rows], keys[rows])
        return PermutedScores(rows, {name: _logits(classify, features) for name, features in changed})

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


def keys_of(config: TreeConfig, model: str) -> dict[str, Any]:
    """A model's keys of the configuration, without its name before them."""
    return {key.removeprefix(f"{model}_"): value for key, value in config.of(model).items()}


def results_on(table: pa.Table, classes: Sequence[str], classify: Classifier) -> dict[str, float]:
    """Loss, accuracy and each class's area under the ROC curve on validation events, by the weights' sizes."""
    weights, labels = weights_of(table), table["label"].to_numpy().astype(np.int64)
    logits = _logits(classify, features_of(table))
    loss = -np.average(logits[np.arange(len(labels)), labels], weights=weights)
    hits = np.average(logits.argmax(axis=1) == labels, weights=weights)
    areas = {
        f"validation_auc_{name}": float(roc_auc_score(is_it, logits[:, label], sample_weight=weights))
        for label, name in enumerate(classes)
        if 0 < (is_it := labels == label).mean() < 1
    }
    return {"validation_loss": float(loss), "validation_accuracy": float(hits), **areas}


def fit_trials(
    spark: SparkSession, data: TreeData, trials: Sequence[Trial], configs: Sequence[TreeConfig], folder: Key
) -> dict[int, Fitted]:
    """Train a tree model by each trial of a search, some at a time, and leave a record of each that is done.

    Args:
        spark: The session.
        data: The dataset.
        trials: What is tried.
        configs: How each of them is trained: one model of them all.
        folder: Of the study.

    Returns:
        Trial's number → its results.

    Raises:
        InvalidInputError: The dataset is damaged.
    """
    validation, classes = data.table("validation"), classes_of(data.manifest)

    def fitted(trial: Trial, config: TreeConfig) -> Fitted:
        [model] = config.models
        content = MODELS[model].fit(spark, data, keys_of(config, model))
        found = Fitted(([results_on(validation, classes, MODELS[model].load(content))],))
        trial.record(folder, 1).create_if_absent(found.to_json(trial))
        logger.info("trial %d: validation loss %.4f, %s", trial.number, found.loss(1), json.dumps(trial.values))
        return found

    with job_pool(spark, FITS_AT_ONCE) as pool:
        done = pool.map(fitted, trials, configs)
        return {trial.number: each for trial, each in zip(trials, done, strict=True)}


def _logits(classify: Classifier, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithms of the probabilities, (events, classes)."""
    return np.log(np.maximum(classify(features), LEAST_PROBABILITY)).astype(np.float32)
