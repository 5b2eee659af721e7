"""What each task of a run is told: plain dictionaries, which travel from the first task to the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NotRequired, Required, TypedDict

STEP_VERSION = 1
"""Of what a step has and means. Who changes that counts on: a run that was planned before has another."""


class Step(TypedDict):
    """One run of one job."""

    version: int
    """:data:`STEP_VERSION` of the code that has made it."""
    label: str
    """What the task is shown as: its partition, model or dataset."""
    arguments: list[str]
    """Command line after the script."""
    inputs: list[str]
    """Where it reads."""
    outputs: list[str]
    """Directories it writes."""
    config: dict[str, Any]
    """Configuration that the manifest in each output directory must show; empty if there is no manifest."""
    files: list[str]
    """Files in each output directory that must be there afterwards."""
    run_in_log: bool
    """Whether the job works in a directory under ``outputs`` that only its log names, as ``results in DIRECTORY``."""
    workers: int
    """Processes that share the work."""
    runs: NotRequired[list[str]]
    """Labels of the runs of ``train`` and ``train_trees`` that the job takes; where they are, only these tasks say."""


ANY_PARTITION = "{partition}"
"""Stands for the partition in a step of any of them: a task fetches this one, however many days a run has."""

TUNED = "_tuned"
"""What follows the name of a model in the label of its run by the best configuration."""

OF_EACH_PARTITION = ("simulate", "ingest", "select")
"""Tasks whose step is that of :data:`ANY_PARTITION`, for each day of the run."""

OF_EACH_MODEL = ("tune", "train", "train_trees")
"""Tasks that have a step for each of several models."""


class RunSteps(TypedDict, total=False):
    """The steps of one run."""

    days: Required[list[str]]
    """The run's partitions."""
    simulated_days: list[str]
    """Those of them to simulate, if not all."""
    simulate: Step
    ingest: Step
    select: Step
    prepare: Step
    tune: list[Step]
    """One step for each model whose best configuration is searched for."""
    train: list[Step]
    """One step for each network and seed, and for each network that was searched for."""
    train_trees: list[Step]
    """The same for tree models."""
    evaluate: Step
    candidate: Step
    publish: Step
    export: Step
    make_firmware: list[Step]
    """One step, or none unless firmware was asked for."""
    scored_days: list[str]
    """Days that the published model decides on, none of which need be one of the run."""
    score: Step


def of_partition(step: Step, partition: str) -> Step:
    """The step of one partition, from that of any."""

    def named(texts: Sequence[str]) -> list[str]:
        return [text.replace(ANY_PARTITION, partition) for text in texts]

    return {
        **step,
        "label": partition,
        "arguments": named(step["arguments"]),
        "inputs": named(step["inputs"]),
        "outputs": named(step["outputs"]),
    }


def every_step(steps: RunSteps) -> Iterator[tuple[str, Step]]:
    """Task and step of all that a run does, in order."""
    simulated = set(steps.get("simulated_days", steps["days"]))
    for day in steps["days"]:
        for task in OF_EACH_PARTITION:
            if task in steps and (task != "simulate" or day in simulated):
                yield task, of_partition(steps[task], day)  # type: ignore[literal-required]
    if "prepare" in steps:
        yield "prepare", steps["prepare"]
        for task in OF_EACH_MODEL:
            yield from ((task, step) for step in steps.get(task, ()))  # type: ignore[attr-defined]
        yield "evaluate", steps["evaluate"]
    if "candidate" in steps:
        yield from ((task, steps[task]) for task in ("candidate", "publish", "export"))
        yield from (("make_firmware", step) for step in steps["make_firmware"])
        yield from (("score", of_partition(steps["score"], day)) for day in steps["scored_days"])


def log_places(log: Any, step: Step) -> None:
    """Say in the log where a step reads and writes."""
    for what in ("inputs", "outputs"):
        for path in step[what]:
            log("%s: %s", what.removesuffix("s"), path)
