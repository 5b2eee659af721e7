"""A training gang of two pods against the same two workers as processes of this machine, in turns.

Needs a cluster that KUBECONFIG names, with the training image: see tests/support/cluster.py.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.inputs import Bench
from benchmarks.preparation import dataset
from benchmarks.table import Figure

REPOSITORY = Path(__file__).resolve().parents[2]
AIRFLOW_PYTHON = REPOSITORY / ".venv-airflow/bin/python"
LEFT_OUT = "pods left out: set KUBECONFIG to a cluster's (`kind create cluster` or `minikube start` makes one)"

START_GOAL_S = 20.0
SLOWER_AT_MOST = 1.05


def durations(bench: Bench) -> Sequence[Figure]:
    """Of the turn that was disturbed least: an epoch after the first, and from the task's start to the first step."""
    if not os.environ.get("KUBECONFIG"):
        print(LEFT_OUT)
        return []
    path = os.pathsep.join(str(REPOSITORY / each) for each in ("tests", "plugins"))
    command = [AIRFLOW_PYTHON, "-m", "benchmarks.gangs", dataset(bench)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
    gangs = json.loads(done.stdout.splitlines()[-1])
    local, pods = gangs["local"], gangs["kubernetes"]
    epoch, start = _least(local, "epoch_s"), _least(local, "first_step_s")
    above = min(gang["first_step_s"] - gang["container_start_s"] for gang in pods)
    slowest = SLOWER_AT_MOST * epoch
    return [
        Figure("an epoch of the inclusive model, two processes", epoch, "s"),
        Figure("an epoch of the inclusive model, two pods", _least(pods, "epoch_s"), "s", epoch, slowest, at_most=True),
        Figure("task's start to first step, two processes", start, "s"),
        Figure("task's start to first step, two pods", _least(pods, "first_step_s"), "s", start),
        Figure("the same without the containers' own start", above, "s", start, START_GOAL_S, at_most=True),
    ]


def _least(gangs: Sequence[dict[str, float]], name: str) -> float:
    return min(gang[name] for gang in gangs)
