"""Ingest and select a range of production days, in the Airflow that ``make airflow`` runs.

    python -m toposieve_demo.backfill 2026-01-01 2026-01-31      # what `make backfill FROM=… TO=…` does

Each day is a new run of ``build_dataset``, whatever runs it had before: what is complete is found whole and left as it
is, the rest is made. Ends when all days are done, with exit code 1 if one of them is not; the same command then does
that one again. With --train (``TRAIN=1``), and if all days are done, the whole chain then runs once on the range, as
``make demo`` does. What was paused is paused again: nothing runs by itself later that did not before.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from toposieve_airflow.profile import ProfileError, load_profile
from toposieve_airflow.runs.partitions import PartitionError, days
from toposieve_demo.airflow_home import REPOSITORY, LocalAirflow, LocalAirflowError, add_arguments, home_of
from toposieve_demo.api import Api, ApiError
from toposieve_demo.runs import API_TRIES, RunError, report_failure, run_chain, wait_for_dag

DAG_ID = "build_dataset"
RUN_PREFIX = "backfill_"
POLL_S = 1.0


class BackfillError(Exception):
    """Not all days are done; the message says which and what to do."""


def arg_parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("first", help="first day, as 2026-01-01")
    parser.add_argument("last", help="last day, included")
    parser.add_argument("--train", action="store_true", help="train and evaluate on the range when all days are done")
    return parser


def main(args: argparse.Namespace) -> int:
    """Start the runs and follow them to their end; returns the exit code."""
    home = home_of(args)
    try:
        asked = _days_until_today(args.first, args.last)
        profile = load_profile(REPOSITORY / "dags" / "config")
        airflow = LocalAirflow(home, home.api(), {}, datetime.now(UTC))
        if airflow.api.health() is None:
            raise LocalAirflowError(f"no Airflow answers on {home.url}: start it in another terminal by make airflow")
        wait_for_dag(airflow, DAG_ID)
        _build(airflow, asked)
        if not args.train:
            return 0
        conf = {"partition_start": asked[0], "partition_end": asked[-1]}
        return 0 if run_chain(airflow, profile, conf, RUN_PREFIX) else 1
    except (LocalAirflowError, ProfileError, PartitionError, BackfillError, RunError, ApiError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: Airflow on {home.url} does not answer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what was complete is kept, and the same command does the rest", file=sys.stderr)
        return 130


def _days_until_today(first: str, last: str) -> list[str]:
    asked = days(first, last, ("FROM", "TO"))
    today = datetime.now(UTC).date().isoformat()
    if asked[-1] > today:
        raise PartitionError(f"TO {asked[-1]} is in the future: the last day can be today, {today}")
    return asked


def _build(airflow: LocalAirflow, asked: Sequence[str]) -> None:
    """Run the DAG for each day.

    Raises:
        BackfillError: A day is not done.
    """
    backfill = _create(airflow.api, asked)
    try:
        with airflow.api.unpaused(DAG_ID) as was_paused:
            runs = _follow(airflow.api, backfill["created_at"], end_nightly=was_paused)
    finally:  # whether it is over or given up: Airflow allows one at a time
        with suppress(ApiError, OSError):
            airflow.api.put(f"/backfills/{backfill['id']}/cancel")
    failed = sorted(run["partition_key"] for run in runs if run["state"] == "failed")
    for run in runs:
        if run["state"] == "failed":
            report_failure(airflow, DAG_ID, run["dag_run_id"])
    busy = sorted(set(asked) - {run["partition_key"] for run in runs})
    if failed or busy:
        problems = [f"{len(failed)} failed: {', '.join(failed)}"] if failed else []
        problems += [f"another run is at {', '.join(busy)}"] if busy else []
        raise BackfillError(f"of {len(asked)} days {'; '.join(problems)}; run the same command again when that is over")
    print(f"all {len(asked)} days are done", flush=True)


def _create(api: Api, asked: Sequence[str]) -> dict[str, Any]:
    body = {"dag_id": DAG_ID, "from_date": f"{asked[0]}T00:00:00Z", "to_date": f"{asked[-1]}T00:00:00Z"}
    # By default Airflow leaves out each day that ever had a run, though it failed.
    try:
        return dict(api.post("/backfills", {**body, "reprocess_behavior": "completed"}))
    except ApiError as error:
        if error.status != HTTPStatus.CONFLICT:
            raise
        raise BackfillError(
            f"another backfill of {DAG_ID} is under way: wait for its end, or cancel it in the UI, on the DAG's page"
        ) from None


def _follow(api: Api, since: str, *, end_nightly: bool) -> list[dict[str, Any]]:
    """The backfill's runs, when all have ended; the UI and these lines show how they get on."""
    shown: set[str] = set()
    while True:
        if end_nightly:
            with suppress(ApiError, OSError):  # next time, then
                _end_nightly(api, since)
        runs = _runs(api, since)
        for run in runs:
            if run["state"] in ("success", "failed") and run["dag_run_id"] not in shown:
                shown.add(run["dag_run_id"])
                print(f"{run['partition_key']}  {run['state']}", flush=True)
        if len(shown) == len(runs):
            return runs
        time.sleep(POLL_S)


def _runs(api: Api, since: str) -> list[dict[str, Any]]:
    """Runs of the backfill; a busy machine may delay or spoil an answer."""
    for _ in range(API_TRIES):
        try:
            return api.runs(DAG_ID, run_type="backfill", start_date_gte=since)
        except (ApiError, OSError) as error:
            problem = error
        time.sleep(POLL_S)
    raise BackfillError(f"Airflow's API has failed {API_TRIES} times in a row: {problem}")


def _end_nightly(api: Api, since: str) -> None:
    """End the run for yesterday, which Airflow makes as soon as the DAG is no longer paused."""
    for run in api.runs(DAG_ID, run_type="scheduled", state=["queued", "running"]):
        if datetime.fromisoformat(run["queued_at"]) >= datetime.fromisoformat(since):
            # To delete it would end the scheduler, if that is at work on it.
            api.end_run(DAG_ID, run["dag_run_id"], note="Not wanted: this DAG was on for a backfill alone.")


if __name__ == "__main__":
    sys.exit(main(arg_parser().parse_args()))
