"""Which trained model is the published one: somebody decides, or rules do.

`candidate` → `approve` → `publish` → `export` → `make_firmware`, `score` (if asked)

**When.** A new report starts a run, whose partition key is the report's name, unless this DAG is paused; any other
starts by hand, with that name. The report is what there is to decide by: a model alone has no rates.

**Deciding.** `candidate` puts the report's model into the registry and shows what would change against the published
one: areas, rates, rejections, and the slices that got worse. `approve` then waits, and takes no slot meanwhile: answer
under *Required Actions*. No answer in time leaves the published model as it is. With `by_rules` in the profile's
`approval` nobody is asked, and the rules below decide. A newer candidate supersedes one that waits.

**Serving.** `export` gives the published model its portable form (ONNX) for `score.py` and `serve.py`, once it agrees
with the model itself on every test event. A model that cannot have one, as the Particle Transformer, is published all
the same.

**If asked.** `score` decides on the selected events of old days, from `score_start` to `score_end`, by the model that
is published then; decisions of other versions stay beside these. `make_firmware` turns an `hlf` into Verilog that
decides the same, in the environment that `make firmware-env` builds; where the profile has no `firmware_python`, as on
Kubernetes, there is no such task.

**Going back.** A run with `action` *rollback* and the reason publishes again what was published before, once: clearing
its tasks changes nothing more.

**Where things are**, under the profile's `base` (in the local set-up: `work/` of the repository; what is simulated is
in `raw/{sample}/{day}/`): `registry/topology/` has the versions with all their files, and who published which, when and
why. `python jobs/publish_model.py list` shows them. `score` writes to `decisions/topology/{version}/{day}/`,
`make_firmware` to `firmware/{dataset}/hlf/{run}/`; their logs name the folder.
"""

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG, PartitionedAssetTimetable

from toposieve_airflow.runs import assets, params
from toposieve_airflow.runs.factory import form, task_defaults, tasks_for
from toposieve_airflow.runs.steps import publish_model_steps

STAGES = ("publication", "decision", "firmware")

tasks = tasks_for(Path(__file__).parent / "config")

with DAG(
    dag_id="publish_model",
    description="Approve a trained model, publish and export it, or go back",
    doc_md=__doc__,
    schedule=PartitionedAssetTimetable(assets=assets.REPORT),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=16,  # a run that waits for an answer is active
    default_args=task_defaults(retries=1),
    params=form(
        params.publication_params(),
        params.decision_params(),
        {"replace": params.replace_param()},
        tasks.schema.stage_params(STAGES),
    ),
    tags=["toposieve"],
):
    plan = tasks.plan(STAGES, publish_model_steps)
    candidate = tasks.gang("candidate", plan)
    approve = tasks.approve(plan, candidate)
    publish = tasks.gang("publish", approve)
    export = tasks.gang("export", plan)
    score = tasks.spark_per_day("score", plan, tasks.listed("scored_days", plan, "scored_days"))

    plan >> candidate >> approve >> publish >> export >> score
    if (firmware := tasks.firmware(plan)) is not None:
        export >> firmware
    if (clean_up := tasks.clean_up()) is not None:
        [candidate, publish, export, score] >> clean_up
