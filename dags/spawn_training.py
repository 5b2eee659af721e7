"""Train by any TensorFlow script, as a gang of workers on Kubernetes.

`plan` (checks the form) → `train` (the gang)

Off unless the profile allows it, for it runs anybody's code: `kubernetes.spawn` says which images there are to choose
from, in which folder scripts lie, and what their pods are.

**What a script gets.** Each worker runs it by `python3`, with `TF_CONFIG` as TensorFlow's multi-worker strategies want
it, its own number as `WORKER_NUMBER`, from 0 on, and that of all workers as `TOT_WORKERS`. Variables come from an
environment file besides, and packages that the image lacks from a requirements file, which is installed into `/tmp`
before the script starts. Script and requirements may have 1 MiB together.

**Where things are**, under the profile's `base`: all that is on the volume of data, such as `raw/{sample}/{day}/` and
`datasets/{dataset}/`, can be read; `kubernetes.spawn.output` says which folder can be written. A store such as S3 needs
its credentials in the environment file. Nobody looks at what a script has written.

**If a task fails**, its log has the last lines of the worker at fault. Whatever its exit code is, it is tried again.
"""

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG

from toposieve_airflow.runs.factory import form, task_defaults, tasks_for
from toposieve_airflow.runs.script_plan import script_params

tasks = tasks_for(Path(__file__).parent / "config")

with DAG(
    dag_id="spawn_training",
    description="Any TensorFlow script as a gang of workers",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=16,
    default_args=task_defaults(retries=1),
    params=form(script_params(tasks.allowed_scripts)),
    tags=["toposieve"],
):
    plan = tasks.plan_script()
    if (train := tasks.script(plan)) is not None:
        plan >> train >> tasks.clean_up()
