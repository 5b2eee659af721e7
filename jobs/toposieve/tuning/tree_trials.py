"""Trials of a search for a tree model: each is a fit on Spark, which a thread waits for."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import as_completed

from pyspark.sql import SparkSession

from toposieve.config import SearchConfig
from toposieve.io.dataset_classes import classes_of
from toposieve.io.store import Key
from toposieve.spark.run import job_pool
from toposieve.tuning.spaces import tree_config
from toposieve.tuning.tree_models import MODELS, TreeData, results_on, saying_what_cannot_be_read
from toposieve.tuning.trials import Fitted, Trial

logger = logging.getLogger(__name__)


def fit_trees(
    spark: SparkSession, data: TreeData, config: SearchConfig, trials: Sequence[Trial], folder: Key
) -> dict[int, Fitted]:
    """Train a tree model by each trial, and leave a record of each that is done.

    Args:
        spark: The session.
        data: The dataset.
        config: Of the search.
        trials: What is tried.
        folder: Of the study.

    Returns:
        Trial's number → its results.

    Raises:
        InvalidInputError: The dataset is damaged.
    """
    model, kind = config.model, MODELS[config.model]
    validation, classes = data.table("validation"), classes_of(data.manifest)
    logger.info("%d trials of %s on %d events", len(trials), model, data.events)

    def fitted(trial: Trial) -> tuple[int, Fitted]:
        content = kind.fit(spark, data, tree_config(config, trial.values).keys_of(model))
        found = Fitted(([results_on(validation, classes, kind.load(content))],))
        trial.record(folder, 1).write_bytes(found.to_json(trial))
        logger.info("trial %d: validation loss %.4f, %s", trial.number, found.loss(1), json.dumps(trial.values))
        return trial.number, found

    with saying_what_cannot_be_read(data), job_pool(spark, kind.fits_at_once) as pool:
        return dict(done.result() for done in as_completed([pool.submit(fitted, trial) for trial in trials]))
