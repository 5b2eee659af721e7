"""The whole chain once, in a real Airflow on this machine.

    python -m toposieve_demo.demo            # what `make demo` does

Simulates three samples of 1,000 selected events, makes a dataset of them, trains three models with two workers each,
and publishes the best one if it meets the rules. It ends with a table of AUCs, the path of the report, the command that
opens Airflow's UI on this run, and what became of the best model. What an earlier demo has completed is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from toposieve_airflow.profile import Profile, ProfileError, load_profile
from toposieve_demo.airflow_home import (
    REPOSITORY,
    LocalAirflow,
    LocalAirflowError,
    add_arguments,
    home_of,
    local_airflow,
)
from toposieve_demo.api import ApiError
from toposieve_demo.runs import RunError, from_here, run_chain

RUN_PREFIX = "demo_"
CONF: dict[str, Any] = {
    "simulate": True,
    "partition_start": "2026-01-01",
    "workers": 2,
    "simulation_selected_events": 1000,
    "simulation_pileup": 20,
    # The published 6 epochs are 90 steps on so few events: smaller batches, longer steps and more epochs.
    "training_epochs": 30,
    "training_patience": 6,
    "training_batch_size": 64,
    "training_learning_rate": 0.003,
}
"""The demo's params; all others keep their defaults, which are the three samples and the three models."""


def arg_parser(description: str | None = __doc__) -> argparse.ArgumentParser:
    """Command line of the demo."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--conf", type=json.loads, default={}, metavar="JSON", help="params to change: a JSON object")
    return parser


def run_once(airflow: LocalAirflow, profile: Profile, conf: dict[str, Any]) -> int:
    """Run the chain with the demo's params; returns the exit code."""
    return 0 if run_chain(airflow, profile, {**CONF, **conf}, RUN_PREFIX) else 1


def main(args: argparse.Namespace, runs: Callable[[LocalAirflow, Profile, dict[str, Any]], int] = run_once) -> int:
    """Start an Airflow, and in it what is asked for; returns the exit code."""
    home = home_of(args)
    try:
        print(f"starting Airflow on {home.url} (logs in {from_here(home.folder / 'logs')})", flush=True)
        profile = load_profile(REPOSITORY / "dags" / "config")
        finish = ["make", "--silent", ".venv-jobs/.ready"]  # of the jobs' environment, what Airflow can start without
        with subprocess.Popen(finish, cwd=REPOSITORY) as finishing, local_airflow(home) as airflow:
            if finishing.wait() != 0:
                raise RunError("the jobs' environment is not ready: see above")
            return runs(airflow, profile, args.conf)
    except (LocalAirflowError, ProfileError, RunError, ApiError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; everything that was complete is kept", file=sys.stderr)
        return 130


def run(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run the demo; returns the exit code."""
    return main(arg_parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(run())
