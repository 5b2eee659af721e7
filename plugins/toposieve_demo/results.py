"""The README's table of results: the whole chain at full length, in a real Airflow on this machine.

    python -m toposieve_demo.results         # what `make results` does

Simulates 20,000 selected events a class, trains every model, the dearer ones with fewer seeds, and writes the tables
into README.md. On two cores the simulation takes an hour and all of it five; the tables are filled after each part, and
what an earlier call has completed is not done again. Rows of other machines stay: the sample is the same on each.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from toposieve_airflow.profile import Profile
from toposieve_demo import demo
from toposieve_demo.airflow_home import REPOSITORY, LocalAirflow
from toposieve_demo.runs import print_table, run_chain

RUN_PREFIX = "results_"
CONF: dict[str, Any] = {
    **demo.CONF,
    "partition_start": "2026-02-01",
    "partition_end": "2026-02-02",
    "simulation_selected_events": 10_000,
    "training_epochs": 40,
    "training_patience": 6,
    "training_batch_size": 128,
    "training_learning_rate": 0.002,
}
OF_PARTICLES: dict[str, Any] = {
    "training_epochs": 16,
    "training_patience": 16,
    "training_learning_rate_schedule": "cosine",
}
"""Models of particles need fewer epochs, if the rate falls, and each of them is thousands of times as dear as hlf's."""
DEAREST: dict[str, Any] = {**OF_PARTICLES, "training_epochs": 6, "training_patience": 6}
"""Models that look at all pairs of particles: an hour of a core, even so."""
TREES = ["random_forest", "xgboost", "lightgbm"]
PARTS: tuple[dict[str, Any], ...] = (
    {"models": ["hlf"], "seeds": 5, "tune": ["hlf", *TREES], "trees": TREES},
    {"models": ["inclusive"], "seeds": 5, **OF_PARTICLES},
    {"models": ["particle_transformer"], **OF_PARTICLES},
    {"models": ["particle_sequence"], "seeds": 5, **OF_PARTICLES},
    {"models": ["inclusive_lstm"], "seeds": 3, **OF_PARTICLES},
    {"models": ["inclusive_transformer"], **DEAREST},
    {"models": ["inclusive_masked_transformer"], **DEAREST},
)
"""What is trained, one run of the DAG after the other: each adds its models to the tables, and to the report of those
that are trained alike."""


def fill(airflow: LocalAirflow, profile: Profile, conf: dict[str, Any]) -> int:
    """Run all parts; returns the exit code."""
    for part in PARTS:
        report = run_chain(airflow, profile, {**CONF, **part, **conf}, RUN_PREFIX)
        if report is None:
            return 1
        print_table(profile, "results_table", f"{report}/metrics.json", str(REPOSITORY / "README.md"))
    return 0


def run(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and fill the table; returns the exit code."""
    return demo.main(demo.arg_parser(__doc__).parse_args(arguments), fill)


if __name__ == "__main__":
    sys.exit(run())
