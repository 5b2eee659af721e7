"""What each task of a run does: its command line, where its input is and where its output goes.

Pure functions from a run's params to plain dictionaries, which travel from the first task to the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from toposieve_airflow.contract.step import ANY_PARTITION, STEP_VERSION, TUNED, RunSteps, Step
from toposieve_airflow.profile import Profile, is_read_only
from toposieve_airflow.runs.naming import dataset_name, report_name, study_name
from toposieve_airflow.runs.params import ConfigurationSchema
from toposieve_airflow.runs.partitions import PartitionError, asked_days, check_key, choose_partitions

Config = Mapping[str, Any]

OF_ONE_SAMPLE = ("qcd_fast",)
"""Keys of the simulation that change one sample only: manifests of the others do not show them."""


class StepError(ValueError):
    """Parameters that are each right but do not go together; the message gives the remedy."""


class Commands:
    """Builds the steps of one run.

    Args:
        base: Where all data lies: a path or a URL.
        params: The run's params.
        schema: Schema of the stages' configuration.
        raw: Where raw data lies; without it, below the base.
    """

    def __init__(
        self, base: str, params: Mapping[str, Any], schema: ConfigurationSchema, raw: str | None = None
    ) -> None:
        """Build nothing yet."""
        self._base = base
        self._raw = raw
        self._params = params
        self._schema = schema

    def config(self, stage: str) -> dict[str, Any]:
        """Configuration of a stage."""
        return self._schema.stage_config(self._params, stage)

    def checked(self, stage: str) -> list[dict[str, Any]]:
        """Configurations of a stage to check before the run: one of each model that is searched for, else its own."""
        return [self._search(model) for model in self._params["tune"]] if stage == "search" else [self.config(stage)]

    def shown(self, stage: str) -> dict[str, Any]:
        """What manifests show of it, and names follow from."""
        return self._schema.shown(self.config(stage), stage)

    def classes(self) -> list[str]:
        """The samples as a dataset's classes: in the order of the form, whatever that of the run's params.

        Raises:
            StepError: There is only one.
        """
        chosen = [name for name in self._schema.samples().value if name in self._params["samples"]]
        if len(chosen) < 2:
            raise StepError(
                f"samples: only {', '.join(chosen)}, but the models tell samples apart: give two or more, or process "
                "one with build_dataset or simulate_events"
            )
        return chosen

    def with_classes(self, preparation: Config) -> Config:
        """Preparation's configuration with what the form does not ask for twice."""
        return {"classes": self.classes(), **preparation}

    def is_tree_model(self, model: str) -> bool:
        """Whether a model is trained by Spark."""
        return self._schema.is_tree_model(model)

    def check_raw(self) -> None:
        """Check that samples can be written where raw data lies.

        Raises:
            StepError: It can only be read.
        """
        if self._raw is not None and is_read_only(self._raw):
            raise StepError(
                f"simulate: raw is {self._raw}, which can only be read: run without simulation, or with a profile "
                "whose raw can be written"
            )

    def simulate(self) -> Step:
        """Generate any partition of every sample."""
        samples, config = self._params["samples"], self.config("simulation")
        return self._step(
            ANY_PARTITION,
            ["--partition", ANY_PARTITION, *self._raw_option(), *self._replace()],
            {"samples": samples, **config},
            shows={key: value for key, value in config.items() if key not in OF_ONE_SAMPLE},
            outputs=self._raw_folders(),
        )

    def ingest(self) -> Step:
        """Put any partition's ROOT files on record."""
        gone = ["--drop-missing"] if self._params["drop_missing"] else []
        return self._step(
            ANY_PARTITION,
            ["--samples", *self._params["samples"], *gone, *self._root_options(), *self._replace()],
            self.config("ingest"),
            shows=self.shown("ingest"),
            inputs=self._raw_folders(),
            outputs=[self._below("events", ANY_PARTITION)],
        )

    def select(self) -> Step:
        """Select any partition's events."""
        return self._step(
            ANY_PARTITION,
            [*self._root_options(), *self._replace()],
            self.config("selection"),
            shows=self.config("selection"),
            inputs=[self._below("events", ANY_PARTITION), *self._raw_folders()],
            outputs=[self._below("selected", ANY_PARTITION)],
        )

    def prepare(self, partitions: Sequence[str], dataset: str) -> Step:
        """Make a dataset of these partitions."""
        return self._step(
            dataset,
            ["--partitions", *partitions, "--dataset", dataset, *self._replace()],
            self.with_classes(self.config("preparation")),
            shows={"preparation": self.with_classes(self.shown("preparation"))},
            inputs=[self._below("selected", partition) for partition in partitions],
            outputs=[self._below("datasets", dataset)],
        )

    def tune(self, dataset: str, model: str) -> Step:
        """Search for a model's best configuration."""
        study = self._study(dataset, model)
        # Its name has dataset and configuration: what is there of another dataset is of one that was made anew.
        step = self._step(
            model,
            ["--dataset", dataset, "--study", study, "--replace"],
            self._search(model),
            inputs=[self._below("datasets", dataset)],
            outputs=[self._below("studies", study)],
        )
        return {**step, "files": ["best.json"]}

    def train(self, dataset: str, model: str, patience_s: int, later: int = 0) -> Step:
        """Train one model, with the configuration's seed or one that comes so much later."""
        training = self._schema.of_model(self.config("training"), model)
        step = self._train(dataset, model, _of_later_seed(model, training, later), patience_s, training)
        return {**step, "config": {"model": model, **self._schema.shown(training, "training")}}

    def train_tuned(self, dataset: str, model: str, patience_s: int) -> Step:
        """Train one network or tree model by the best configuration that ``tune`` found; the form's has the rest."""
        label, study = f"{model}{TUNED}", self._study(dataset, model)
        if self.is_tree_model(model):
            step = self._train_trees(dataset, model, label, {}, ["--study", study])
        else:
            training = self.config("training")
            shown = self._schema.shown(training, "training")
            rest = {key: value for key, value in training.items() if key not in shown}
            step = self._train(dataset, model, label, patience_s, rest, ["--study", study])
        return {**step, "inputs": [*step["inputs"], self._below("studies", study)]}

    def _search(self, model: str) -> dict[str, Any]:
        return {"model": model, **self._schema.of_model(self.config("search"), model, "search")}

    def _study(self, dataset: str, model: str) -> str:
        return study_name(dataset, self._search(model))

    def _train(
        self, dataset: str, model: str, label: str, patience_s: int, config: Config, more: Sequence[str] = ()
    ) -> Step:
        step = self._step(
            label,
            ["--dataset", dataset, "--startup-timeout", str(patience_s), *more],
            {"model": model, **config},
            shows={"model": model},
            inputs=[self._below("datasets", dataset)],
            outputs=[self._below("models", model)],
        )
        return {**step, "workers": self._params["workers"], "run_in_log": True}

    def train_trees(self, dataset: str, model: str, later: int = 0) -> Step:
        """Train one tree model, with the configuration's seed or one that comes so much later."""
        trees = self._schema.of_model(self.config("trees"), model, "trees")
        return self._train_trees(dataset, model, _of_later_seed(model, trees, later), trees)

    def _train_trees(self, dataset: str, model: str, label: str, config: Config, more: Sequence[str] = ()) -> Step:
        step = self._step(
            label,
            ["--dataset", dataset, *more],
            {"models": [model], **config},
            shows={"model": model, **config},
            inputs=[self._below("datasets", dataset)],
            outputs=[self._below("models", model)],
        )
        return {**step, "run_in_log": True}

    def evaluate(self, dataset: str, tuned: Sequence[Step], trained: Sequence[Step], report: str) -> Step:
        """Evaluate the runs and searches of these steps, beside what the report has already, and write the report."""
        folders = [folder for step in tuned for folder in step["outputs"]]
        studies = ["--studies", *(folder.rpartition("/")[2] for folder in folders)] if folders else []
        models = dict.fromkeys(folder for step in trained for folder in step["outputs"])
        step = self._step(
            report,
            ["--dataset", dataset, "--report", report, "--keep-labels", *studies, *self._replace()],
            self.config("evaluation"),
            shows=self.config("evaluation"),
            inputs=[self._below("datasets", dataset), *folders, *models],
            outputs=[self._below("reports", report)],
        )
        return {**step, "files": ["metrics.json", "report.html"], "runs": [each["label"] for each in trained]}

    def candidate(self, report: str, label: str | None) -> Step:
        """Register a model of a report, and compare it with the published one."""
        chosen = [] if label is None else ["--label", label]
        return self._registry("register", ["--report", report, *chosen], inputs=[self._below("reports", report)])

    def rollback(self, version: int | None, who: str, why: str, order: str) -> Step:
        """Publish again what was published before, once for each order."""
        chosen = [] if version is None else ["--version", str(version)]
        return self._registry("rollback", ["--who", who, "--why", why, "--order", order, *chosen])

    def publish(self, order: str) -> Step:
        """Publish a version; who decides adds which, for whom and why."""
        return self._registry("publish", ["--order", order])

    def export(self) -> Step:
        """Give the published version its portable form, if it can have one."""
        folder = self._below("registry")
        step = self._step("export", [], {}, inputs=[folder], outputs=[folder])
        return {**step, "arguments": ["--base", self._base, "--where-possible"]}  # a job without a configuration

    def make_firmware(self) -> Step:
        """Make firmware of the published version."""
        config, outputs = self.config("firmware"), [self._below("firmware")]
        inputs = [self._below("registry")]
        step = self._step("firmware", self._replace(), config, shows=config, inputs=inputs, outputs=outputs)
        return {**step, "files": ["firmware.json"], "run_in_log": True}

    def score(self) -> Step:
        """Let the published version decide on any partition's selected events."""
        config, outputs = self.config("decision"), [self._below("decisions")]
        arguments = ["--partition", ANY_PARTITION, *self._replace()]
        inputs = [self._below("registry"), self._below("selected", ANY_PARTITION)]
        step = self._step(ANY_PARTITION, arguments, config, shows=config, inputs=inputs, outputs=outputs)
        return {**step, "run_in_log": True}

    def _registry(self, action: str, arguments: Sequence[str], inputs: Sequence[str] = ()) -> Step:
        config, outputs = self.config("publication"), [self._below("registry")]
        return self._step(action, [action, *arguments], config, inputs=inputs, outputs=outputs)

    def _below(self, *names: str) -> str:
        return "/".join([self._base.rstrip("/"), *names])

    def _raw_folders(self) -> list[str]:
        raw = self._below("raw") if self._raw is None else self._raw
        return [f"{raw}/{sample}/{ANY_PARTITION}" for sample in self._params["samples"]]

    def _root_options(self) -> list[str]:
        """Options of the jobs that read any partition's ROOT files."""
        return ["--partition", ANY_PARTITION, "--on-bad-file", self._params["on_bad_file"], *self._raw_option()]

    def _raw_option(self) -> list[str]:
        return [] if self._raw is None else ["--raw", self._raw]

    def _replace(self) -> list[str]:
        return ["--replace"] if self._params["replace"] else []

    def _step(
        self,
        label: str,
        arguments: Sequence[str],
        config: Config,
        *,
        outputs: Sequence[str],
        inputs: Sequence[str] = (),
        shows: Config | None = None,
    ) -> Step:
        return {
            "version": STEP_VERSION,
            "label": label,
            "arguments": ["--base", self._base, "--config", json.dumps(config), *arguments],
            "inputs": list(inputs),
            "outputs": list(outputs),
            "config": dict(shows or {}),
            "files": [],
            "run_in_log": False,
            "workers": 1,
        }


def _of_later_seed(model: str, config: dict[str, Any], later: int) -> str:
    """Make a model's configuration one of a later seed; returns the label of the run."""
    config["seed"] += later
    return f"{model}_seed{config['seed']}" if later else model


def topology_classifier_steps(
    commands: Commands, params: Mapping[str, Any], partition_key: str | None, profile: Profile
) -> RunSteps:
    """Steps of the whole chain.

    Raises:
        PartitionError: The run does not say which days, or says it wrongly.
        StepError: There is only one sample, or none can be written.
    """
    partitions = choose_partitions(params["partition_start"], params["partition_end"], partition_key)
    made_of = {
        "selection": commands.config("selection"),
        "preparation": commands.with_classes(commands.shown("preparation")),
    }
    if params["simulate"]:
        commands.check_raw()
    dataset = dataset_name(partitions, made_of)
    patience_s = _patience_s(profile)
    seeds = range(params["seeds"])
    train = [commands.train(dataset, model, patience_s, later) for later in seeds for model in params["models"]]
    trees = [commands.train_trees(dataset, model, later) for later in seeds for model in params["trees"]]
    for model in params["tune"]:
        beside = trees if commands.is_tree_model(model) else train
        beside.append(commands.train_tuned(dataset, model, patience_s))
    tune = [commands.tune(dataset, model) for model in params["tune"]]
    report = report_name(dataset, {"training": commands.shown("training"), "evaluation": commands.config("evaluation")})
    return {
        "days": partitions,
        "simulated_days": partitions if params["simulate"] else [],
        "simulate": commands.simulate(),
        "ingest": commands.ingest(),
        "select": commands.select(),
        "prepare": commands.prepare(partitions, dataset),
        "tune": tune,
        "train": train,
        "train_trees": trees,
        "evaluate": commands.evaluate(dataset, tune, [*train, *trees], report),
    }


def build_dataset_steps(
    commands: Commands, params: Mapping[str, Any], partition_key: str | None, profile: Profile
) -> RunSteps:
    """Steps of one production day.

    Raises:
        PartitionError: The run has no partition key, or one that cannot be a folder's name.
    """
    if partition_key is None:
        raise PartitionError(
            "this run has no partition key: give one in the trigger form, or use "
            "`airflow backfill create --dag-id build_dataset --from-date 2026-01-01 --to-date 2026-01-01 "
            "--reprocess-behavior completed`"
        )
    return {"days": [check_key(partition_key)], "ingest": commands.ingest(), "select": commands.select()}


def simulate_events_steps(
    commands: Commands, params: Mapping[str, Any], partition_key: str | None, profile: Profile
) -> RunSteps:
    """Steps of sample generation.

    Raises:
        PartitionError: The run does not say which days, or says it wrongly.
        StepError: Samples cannot be written where raw data lies.
    """
    partitions = choose_partitions(params["partition_start"], params["partition_end"], partition_key)
    commands.check_raw()
    return {"days": partitions, "simulate": commands.simulate()}


def publish_model_steps(
    commands: Commands, params: Mapping[str, Any], partition_key: str | None, profile: Profile
) -> RunSteps:
    """Steps that publish a model, or go back to the one before.

    Raises:
        StepError: The run does not say of which report, or not why to go back, or asks for firmware where none is made.
        PartitionError: The days to decide on again make no range.
    """
    if params["action"] == "rollback":
        if not params["why"]:
            raise StepError("why: empty, but who goes back has to say why: give the reason")
        first = commands.rollback(params["version"], params["who"], params["why"], params["order"])
    elif report := params["report"] or partition_key:
        first = commands.candidate(report, params["label"])
    else:
        raise StepError("report: empty, and no report has started this run: give the name of one")
    if params["firmware"] and profile.firmware_python is None:
        raise StepError(
            "firmware: this profile has no environment that makes any (firmware_python is null): run without, and "
            "jobs/make_firmware.py where `make firmware-env` was"
        )
    return {
        "days": [],
        "candidate": first,
        "publish": commands.publish(params["order"]),
        "export": commands.export(),
        "make_firmware": [commands.make_firmware()] if params["firmware"] else [],
        "scored_days": asked_days(params["score_start"], params["score_end"], ("score_start", "score_end")),
        "score": commands.score(),
    }


def _patience_s(profile: Profile) -> int:
    """Seconds after which a worker ends itself because its peers do not come.

    The operator of pods gives up before that: it knows why they do not come, and of two gangs that hold each other's
    nodes only one does so at a time, while their workers would all end together.
    """
    return profile.training.startup_timeout_s * (1 if profile.operators == "local" else 2)
