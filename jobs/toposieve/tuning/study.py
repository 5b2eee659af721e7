"""A search: trials asked for in batches, compared after some epochs, and told in order.

What was drawn follows from the seed and from what came of the trials before. So a search that was killed is told anew
from the trials' records, draws the same, and goes on.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from pyspark.sql import SparkSession

from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import SearchConfig, TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.models import TREE_MODELS
from toposieve.spark.run import run_on_spark
from toposieve.training.runs import STUDY_FILE, SUMMARY_FILE
from toposieve.training.shards import Dataset
from toposieve.tuning.spaces import Space, from_text, space_of, to_text, training_config, tree_config
from toposieve.tuning.tree_models import TreeData
from toposieve.tuning.tree_trials import fit_trees
from toposieve.tuning.trials import Fitted, Group, Trial, fit

FEWEST = 5
"""Trials for each key, from which something is said of the keys' importances."""
ALIKE = 1e-6
"""Standard deviation of losses of which nothing is said."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A configuration that was trained to its end."""

    loss: float
    """Validation loss, mean over the folds."""
    trial: Trial
    epochs: int


@dataclass(frozen=True)
class Search:
    """A search on a dataset, in a folder of its own."""

    folder: Key
    dataset: Dataset
    config: SearchConfig

    @property
    def is_of_trees(self) -> bool:
        """Whether it is for a tree model."""
        return self.config.model in TREE_MODELS

    @cached_property
    def tree_data(self) -> TreeData:
        """The dataset as tree models take it, from its first use on."""
        return TreeData(self.dataset.directory)

    @property
    def space(self) -> Space:
        """Where it looks."""
        return space_of(self.config)

    def claim(self, *, replace: bool = False) -> None:
        """Take the folder for this search, or find that it is its own already.

        Args:
            replace: Remove another search that is there.

        Raises:
            InvalidInputError: It is of another dataset, configuration or code, and is not to be replaced.
        """
        identity = {
            "dataset": self.dataset.fingerprint,
            "config": self.config.model_dump(mode="json"),
            "code": {stage: CODE_NUMBERS[stage] for stage in ("tune", "train_trees" if self.is_of_trees else "train")},
        }
        key = self.folder / STUDY_FILE
        content = (json.dumps(identity, indent=1) + "\n").encode()
        if key.create_if_absent(content):
            return
        known = json.loads(key.read_bytes())
        for name, value in identity.items():
            if known.get(name) != value:
                what = f"{self.folder} is a study of another {name}{_difference(known.get(name), value)}"
                if not replace:
                    raise InvalidInputError(f"{what}: give another --study, or --replace")
                logger.warning("%s: it is removed", what)
                self.folder.delete_below(*(each for each in self.folder.list() if each != STUDY_FILE))
                key.write_bytes(content)  # last: until then whoever comes next finds another one's, and removes it
                return

    def run(self, spark: Callable[[], SparkSession]) -> list[Candidate]:
        """Try all that is to be tried.

        Args:
            spark: Gives the session; not called where all trials are on record.

        Returns:
            The configurations that were trained to their end, best first.

        Raises:
            InvalidInputError: The dataset is damaged, or no trial has a finite loss.
        """
        space, candidates = self.space, list[Candidate]()
        study, total = _new_study(self.config, space)
        size = total if space.is_grid else self.config.batch_trials
        for first in range(0, total, size):
            asked = [study.ask(_distributions(space)) for _ in range(min(size, total - first))]
            candidates += self._batch(spark, study, asked)
            best = min(candidates, key=_rank).loss if candidates else math.inf
            logger.info("%d of %d trials; best validation loss %.4f", first + len(asked), total, best)
        if not candidates:
            raise InvalidInputError(f"no trial of {self.folder} has a finite loss: look at the dataset's weights")
        (self.folder / SUMMARY_FILE).write_text(json.dumps(self._summary(study), indent=1) + "\n")
        return sorted(candidates, key=_rank)

    def _summary(self, study: optuna.Study) -> dict[str, Any]:
        """What reports show: of each trial its values and the loss after its last epoch, and what each key explains."""
        trials = [
            {
                "number": each.number,
                "values": {key: from_text(value) for key, value in each.params.items()},
                "epochs": (last := max(each.intermediate_values)),
                "loss": loss if math.isfinite(loss := each.intermediate_values[last]) else None,
            }
            for each in study.trials
        ]
        epochs, shares = _importances(study, self.space, self.config.seed)
        return {"model": self.config.model, "trials": trials, "importances": shares, "importance_epochs": epochs}

    def _batch(
        self, spark: Callable[[], SparkSession], study: optuna.Study, asked: Sequence[optuna.Trial]
    ) -> list[Candidate]:
        """Train some trials, fewer after each comparison, and tell the study of all."""
        trials = [Trial(each.number, {key: from_text(value) for key, value in each.params.items()}) for each in asked]
        handles, results = {each.number: each for each in asked}, dict[int, Fitted]()
        alive, space = trials, self.space
        for epochs in space.rungs:
            if epochs != space.rungs[0]:
                alive = sorted(alive, key=lambda each: results[each.number].loss(epochs))  # of what they have so far
                alive = alive[: math.ceil(len(alive) * space.kept)]
            results |= self._train(spark, alive, epochs, results)
            for trial in alive:
                handles[trial.number].report(results[trial.number].loss(epochs), epochs)
        ended = {trial.number for trial in alive}
        for trial in trials:
            loss = results[trial.number].loss(space.epochs[-1])
            pruned = trial.number not in ended or math.isinf(loss)
            state = optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE
            study.tell(handles[trial.number], None if pruned else loss, state)
        ends = space.epochs if space.kept == 1 else space.epochs[-1:]
        found = [Candidate(results[each.number].loss(epochs), each, epochs) for each in alive for epochs in ends]
        return [candidate for candidate in found if math.isfinite(candidate.loss)]

    def _train(
        self, spark: Callable[[], SparkSession], trials: Sequence[Trial], epochs: int, before: dict[int, Fitted]
    ) -> dict[int, Fitted]:
        """Results of trials after so many epochs: from their records, or trained on Spark."""
        records = {trial.number: self._recorded(trial, epochs) for trial in trials}
        found = {number: known for number, known in records.items() if known is not None}
        missing = [trial for trial in trials if trial.number not in found]
        if not missing:
            return found
        if self.is_of_trees:
            return found | fit_trees(spark(), self.tree_data, self.config, missing, self.folder)
        return found | self._train_networks(spark(), missing, epochs, before)

    def _train_networks(
        self, spark: SparkSession, trials: Sequence[Trial], epochs: int, before: dict[int, Fitted]
    ) -> dict[int, Fitted]:
        """Results of trials, those that share a graph after each other."""
        groups = dict[str, tuple[TrainingConfig, list[Trial]]]()
        for trial in trials:
            config = training_config(self.config, trial.values, self.space.epochs[-1])
            config = config.model_copy(update={"learning_rate": 1.0})
            groups.setdefault(config.hash, (config, []))[1].append(trial)
        items = [
            Group(
                self.dataset,
                config,
                self.space.folds,
                epochs,
                tuple((trial, before.get(trial.number)) for trial in members),
                self.folder,
            )
            for config, members in groups.values()
        ]
        done = run_on_spark(spark, fit, items, name=f"{len(trials)} trials to epoch {epochs}").results
        return {
            trial.number: fitted
            for number, item in enumerate(items)
            for (trial, _), fitted in zip(item.trials, done[number], strict=True)
        }

    def _recorded(self, trial: Trial, epochs: int) -> Fitted | None:
        key = trial.record(self.folder, epochs)
        if key.stat() is None:
            return None
        with suppress(ValueError, LookupError, TypeError):
            content = json.loads(key.read_bytes())
            if content["values"] == trial.values:
                return Fitted(tuple(content["histories"]))
        logger.warning("%s is damaged, or of other values than these libraries draw: it is tried again", key)
        return None

    def best_config(self, best: Candidate) -> dict[str, Any]:
        """How to train the best one again: keys of the configuration of the job that trains such models."""
        if self.is_of_trees:
            model = self.config.model
            return {"models": [model], **tree_config(self.config, best.trial.values).of(model)}
        return training_config(self.config, best.trial.values, best.epochs).model_dump(mode="json")


def _importances(study: optuna.Study, space: Space, seed: int) -> tuple[int, dict[str, float]]:
    """The last epochs that enough trials have reached, and key → share of the variance of the loss there.

    Nothing of any key where no epochs are such, or all losses are alike.
    """
    for epochs in reversed(space.rungs):
        reached = [each for each in study.trials if math.isfinite(each.intermediate_values.get(epochs, math.inf))]
        losses = [each.intermediate_values[epochs] for each in reached]
        if len(reached) >= FEWEST * len(space.axes) and np.std(losses) > ALIKE:
            compared = optuna.create_study()
            for each, loss in zip(reached, losses, strict=True):
                made = optuna.trial.create_trial(params=each.params, distributions=each.distributions, value=loss)
                compared.add_trial(made)
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
            return epochs, optuna.importance.get_param_importances(compared, evaluator=evaluator)
    return space.rungs[0], {}


def _rank(candidate: Candidate) -> tuple[float, int, int]:
    return candidate.loss, candidate.epochs, candidate.trial.number


def _new_study(config: SearchConfig, space: Space) -> tuple[optuna.Study, int]:
    """A study that has asked nothing, and how many trials it is to have."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=config.seed))
    if not space.is_grid:
        return study, config.trials
    for values in space.grid():
        study.enqueue_trial({key: to_text(value) for key, value in values.items()})
    return study, len(space.grid())


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {
        key: FloatDistribution(axis[0], axis[1], log=True)
        if isinstance(axis, tuple)
        else CategoricalDistribution([to_text(value) for value in axis])
        for key, axis in space.axes.items()
    }


def _difference(known: Any, value: Any) -> str:
    """The first key in which two configurations differ, with both values."""
    if not isinstance(known, dict) or not isinstance(value, dict):
        return ""
    shared = known.keys() & value.keys()
    key = next(key for key in [*value, *known] if key not in shared or known[key] != value[key])
    return f" ({key} {known.get(key)}, now {value.get(key)})"
