"""Ingest and select one production day.

`ingest` (puts the day's ROOT files on record) → `select` (reads them), every day for the day before. The run's
partition key is the day. Events are announced as the asset `toposieve_events`, selected events as `toposieve_selected`,
each with the day as its key; `topology_classifier` follows.

**A range of days:** `airflow backfill create --dag-id build_dataset --from-date 2026-01-01 --to-date 2026-01-03
--reprocess-behavior completed` (`make backfill` in the local set-up). A day that is already complete is read, found
whole, and left as it is; the others are made. Without `--reprocess-behavior` Airflow leaves out every day that ever had
a run, even if it failed; with `failed`, those whose last run has not failed. A backfilled day starts no training: then
start `topology_classifier` from its form, with the range.

A day may have some of the samples only: the log of `ingest` names those it lacks. A dataset needs each of its
classes somewhere in its range of days.

**Where things are**, under the profile's `base` (in the local set-up: `work/` of the repository): ROOT files in
`raw/{sample}/{day}/`, output in `events/{day}/` and `selected/{day}/`, each with manifests, of which the one with
the highest number is the truth; the cutflow is `selected/{day}/cutflow.json`. With `ingest_store_events` every event's
needed leaves are stored as Parquet too, in `events/{day}/`: about as much disk as the ROOT files, worth it if you will
select many times, with other cuts. The selected events are the same.

**If a task fails.** Exit code 2 means that input or configuration is wrong: the log says what to change, and there is
no retry. Output of another configuration is refused unless `replace` is on.
"""

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG, CronPartitionTimetable

from toposieve_airflow.runs import assets, params
from toposieve_airflow.runs.factory import form, task_defaults, tasks_for
from toposieve_airflow.runs.steps import build_dataset_steps

STAGES = ("ingest", "selection")

tasks = tasks_for(Path(__file__).parent / "config")

with DAG(
    dag_id="build_dataset",
    description="Ingest and select one production day",
    doc_md=__doc__,
    # At midnight, for the day that has just ended.
    schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=2,
    default_args=task_defaults(retries=2),
    params=form(
        {
            "samples": tasks.schema.samples(),
            "on_bad_file": params.bad_file_param(),
            "drop_missing": params.drop_missing_param(),
            "replace": params.replace_param(),
        },
        tasks.schema.stage_params(STAGES),
    ),
    tags=["toposieve"],
):
    plan = tasks.plan(STAGES, build_dataset_steps)
    ingest = tasks.spark_per_day("ingest", plan, outlets=[assets.EVENTS])
    select = tasks.spark_per_day("select", plan, outlets=[assets.SELECTED])

    plan >> ingest >> select
    if (clean_up := tasks.clean_up()) is not None:
        [ingest, select] >> clean_up
