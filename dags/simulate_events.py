"""Make simulated samples.

One task per production day from `partition_start` to `partition_end`: Pythia 8.3 events with pile-up and a fast
detector, as ROOT files in the layout of Delphes. The same seeds give the same events.

**Where things are**, under the profile's `base` (in the local set-up: `work/` of the repository): the files of each day
in `raw/{sample}/{day}/`, the pile-up library that all days share in `raw/_pileup/`. A day that is complete is left as
it is.
"""

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG

from toposieve_airflow.runs import params
from toposieve_airflow.runs.factory import form, task_defaults, tasks_for
from toposieve_airflow.runs.steps import simulate_events_steps

STAGES = ("simulation",)

tasks = tasks_for(Path(__file__).parent / "config")

with DAG(
    dag_id="simulate_events",
    description="Simulated samples for any production days",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(retries=1),
    params=form(
        params.day_params(),
        {"samples": tasks.schema.samples(), "replace": params.replace_param()},
        tasks.schema.stage_params(STAGES),
    ),
    tags=["toposieve"],
):
    plan = tasks.plan(STAGES, simulate_events_steps)
    simulate = tasks.spark_per_day("simulate", plan)

    plan >> simulate
    if (clean_up := tasks.clean_up()) is not None:
        simulate >> clean_up
