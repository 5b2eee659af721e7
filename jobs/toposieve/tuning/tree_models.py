"""Tree models of the high-level features: a random forest and XGBoost on Spark's data, LightGBM in one of its tasks.

The same events in the same order, weights whose sums are exact, and one thread to a model make each the same again
whatever the master.
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from sklearn.metrics import roc_auc_score

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.dataset_classes import classes_of
from toposieve.io.event_tables import TABLE_SCHEMA, features_of, read_tables
from toposieve.io.manifests import Manifest, read_manifest
from toposieve.io.store import Key
from toposieve.spark.run import run_on_spark
from toposieve.tuning.forest import arrays_of, probabilities, trees_of

LEAST_PROBABILITY = 1e-7
"""Of a class in scores, which are logarithms."""
WEIGHT_STEP = 2.0**-20
"""Weights are multiples of it in a fit, so that their sums are the same in any order."""
PARTITIONS = 8
"""Parts of the training data on Spark, whatever the master: the forest draws its events part by part."""
FOREST_MEMORY_MB = 64
"""Of the sums that a round of the forest holds."""
FIT_COLUMNS = ("label", "weight", *schema.HIGH_LEVEL_FEATURES)
"""Of an event's row, what a fit reads."""

Classifier = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Features (events, 14) → probabilities (events, classes)."""


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

    def table(self, split: str, columns: Sequence[str] = TABLE_SCHEMA.names) -> pa.Table:
        """These columns of all rows of a split, in order.

        Raises:
            InvalidInputError: It has none, or a table is missing or altered.
        """
        tables = list(read_tables(self.directory, self.manifest, split, columns=columns))
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
    types = ", ".join(f"`{name}` double" for name in FIT_COLUMNS)
    rows = spark.sparkContext.parallelize(parts, partitions)
    return spark.createDataFrame(rows, "part binary").mapInArrow(_events_of, types)


def _events_of(parts: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in parts:
        for part in batch["part"].to_pylist():
            data, start, stop = pickle.loads(part)
            for table in read_tables(data.directory, data.manifest, "train", start, stop, FIT_COLUMNS):
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

    logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)
    model = SparkXGBClassifier(
        features_col=list(schema.HIGH_LEVEL_FEATURES),
        weight_col="weight",
        num_workers=1,
        n_estimators=keys["rounds"],
        learning_rate=keys["rate"],
        max_depth=keys["depth"],
        random_state=keys["seed"],
        verbose=False,
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
    model: str = run_on_spark(spark, _fit_lightgbm, [item], name="LightGBM", quiet=True).results[0]
    return model.encode()


def _fit_lightgbm(item: _LightGbm) -> str:
    import lightgbm

    table, keys = item.data.table("train", FIT_COLUMNS), item.keys
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
    fits_at_once: int = 256
    """Of a search, at most: each takes a core, and a thread of the driver waits for it."""


MODELS = {
    "random_forest": TreeModel("model.json", fit_forest, _load_forest, 1),
    "xgboost": TreeModel("model.json", fit_xgboost, _load_xgboost),
    "lightgbm": TreeModel("model.txt", fit_lightgbm, _load_lightgbm),
}
"""Each of :data:`toposieve.models.TREE_MODELS`."""


@contextmanager
def saying_what_cannot_be_read(data: TreeData) -> Iterator[None]:
    """Around fits: what a task could not read is said without Spark's traces.

    Raises:
        InvalidInputError: The dataset is damaged.
    """
    try:
        yield
    except (PySparkException, Py4JError):
        _ = TreeData(data.directory).events
        raise


# --- what a model says of events ------------------------------------------------------------------------------------


def logits_of(classify: Classifier, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithms of the probabilities, (events, classes)."""
    return np.log(np.maximum(classify(features), LEAST_PROBABILITY)).astype(np.float32)


def results_on(table: pa.Table, classes: Sequence[str], classify: Classifier) -> dict[str, float]:
    """Loss, accuracy and each class's area under the ROC curve on validation events, by the weights' sizes."""
    weights, labels = weights_of(table), table["label"].to_numpy().astype(np.int64)
    logits = logits_of(classify, features_of(table))
    loss = -np.average(logits[np.arange(len(labels)), labels], weights=weights)
    hits = np.average(logits.argmax(axis=1) == labels, weights=weights)
    areas = {
        f"validation_auc_{name}": float(roc_auc_score(is_it, logits[:, label], sample_weight=weights))
        for label, name in enumerate(classes)
        if 0 < (is_it := labels == label).mean() < 1
    }
    return {"validation_loss": float(loss), "validation_accuracy": float(hits), **areas}
