"""Ingest and select a range of production days, in the Airflow that ``make airflow`` runs.

    python -m toposieve_airflow.local.backfill 2026-01-01 2026-01-31      # what `make backfill FROM=… TO=…` does

Each day is a run of ``build_dataset``; a day that is complete is left as it is. The UI shows the runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from toposieve_airflow.local.airflow_home import REPOSITORY, LocalAirflowError, add_arguments, home_of
from toposieve_airflow.local.api import ApiError
from toposieve_airflow.partitions import PartitionError, days
from toposieve_airflow.profiles import ProfileError, load_profile

DAG_ID = "build_dataset"


def arg_parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("first", help="first day, as 2026-01-01")
    parser.add_argument("last", help="last day, included")
    return parser


def main(args: argparse.Namespace) -> int:
    """Start the runs; returns the exit code."""
    home = home_of(args)
    try:
        days(args.first, args.last)
        environment = home.environment(load_profile(REPOSITORY / "dags" / "config"))
        api = home.api()
        if api.health() is None:
            raise LocalAirflowError(f"no Airflow answers on {home.url}: start it in another terminal by make airflow")
        api.unpause(DAG_ID)
    except (LocalAirflowError, ProfileError, PartitionError, ApiError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    create = ["backfill", "create", "--dag-id", DAG_ID, "--from-date", args.first, "--to-date", args.last]
    return subprocess.run([sys.executable, "-m", "airflow", *create], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(arg_parser().parse_args()))
