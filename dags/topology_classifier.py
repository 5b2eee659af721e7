"""From ROOT files to evaluated event-topology classifiers.

`simulate` (if asked) → `ingest` → `select` → `prepare` → `tune` (if asked) → `train`, one task per model and seed →
`evaluate`

**Which data.** Every production day from `partition_start` to `partition_end`; without them, the run's partition key.
A run starts by hand, over the REST API, or by itself when `build_dataset` has finished a day (unless this DAG is
paused); the run that a backfilled day starts is skipped. Days that are complete pass through: nothing is done twice.

**Where things are**, under the profile's `base` (in the local set-up: `work/` of the repository):

| task | input | output |
|---|---|---|
| `simulate` | none | `raw/{sample}/{day}/` |
| `ingest` | `raw/{sample}/{day}/*.root` | `events/{day}/`: which files there are |
| `select` | these files | `selected/{day}/` with `cutflow.json` |
| `prepare` | `selected/{day}/` of all days | `datasets/{dataset}/` |
| `tune` | `datasets/{dataset}/` | `studies/{study}/` |
| `train`, `train_trees` | `datasets/{dataset}/`, and `studies/{study}/` if searched for | `models/{model}/{run}/` |
| `evaluate` | dataset and models | `reports/{report}/report.html` |

The names of dataset, run and report follow from the days and the configuration; a run completes the report that is
there, so that has every model that was trained on its dataset with its configuration. The log of `plan` lists every
path of the run.

**Selecting many times.** `select` reads the ROOT files. To try one cut after the other, switch `ingest_store_events`
on: `ingest` then stores every event's needed leaves as Parquet in `events/{day}/`, as large as the ROOT files, and
`select` reads these, which is faster. The selected events are the same, to the byte, and the Parquet files may be
deleted at any time.

**Searching, and trees.** For each model in `tune`, a Spark job searches for its best configuration in the way of the
section Search; the best is trained besides, and stands in the report as `MODEL_tuned`. A search that was ended goes on
where it was. The tree models in `trees` are trained by Spark jobs, beside the networks, and stand in the same report.
`tune` may name tree models too; what is trained waits for all searches.

**If a task fails.** Exit code 2 means that input or configuration is wrong: the log says what to change, and there is
no retry. Anything else is tried again and goes on from what is already done. Output of another configuration is refused
unless `replace` is on. If one model fails, the report has the others, and `evaluate` fails too, naming it; to train it
again, start a run from the form with the same values and this model alone in `models`: the report is then completed.
"""

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG, PartitionedAssetTimetable

from toposieve_airflow.runs import assets, params
from toposieve_airflow.runs.factory import form, task_defaults, tasks_for
from toposieve_airflow.runs.steps import topology_classifier_steps

STAGES = ("simulation", "ingest", "selection", "preparation", "search", "training", "trees", "evaluation")

tasks = tasks_for(Path(__file__).parent / "config")

with DAG(
    dag_id="topology_classifier",
    description="The whole chain: simulate? → ingest → select → prepare → tune? → train → evaluate",
    doc_md=__doc__,
    schedule=PartitionedAssetTimetable(assets=assets.SELECTED),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=2,
    default_args=task_defaults(retries=1),
    params=form(
        params.day_params(),
        {
            "samples": tasks.schema.samples(),
            "models": tasks.schema.models(),
            "seeds": params.seeds_param(),
            "tune": tasks.schema.tuned_models(),
            "trees": tasks.schema.trees(),
            "workers": params.workers_param(),
            "simulate": params.switch("Generate the samples first, if they are not there yet."),
            "on_bad_file": params.bad_file_param(),
            "drop_missing": params.drop_missing_param(),
            "replace": params.replace_param(),
        },
        tasks.schema.stage_params(STAGES),
    ),
    tags=["toposieve"],
):
    plan = tasks.plan(STAGES, topology_classifier_steps)
    simulate = tasks.spark_per_day("simulate", plan, tasks.listed("simulated_days", plan, "simulated_days"))
    # Without simulation that task is skipped; what follows runs all the same, unless the plan is skipped.
    ingest = tasks.spark_per_day("ingest", plan, trigger_rule="none_failed_min_one_success")
    select = tasks.spark_per_day("select", plan)
    prepare = tasks.spark("prepare", plan, mapped="train", outlets=[assets.DATASET])
    tune = tasks.spark_per_model("tune", tasks.listed("searches", plan, "tune"))
    train = tasks.gang_per_model("train", prepare, outlets=[assets.MODEL], retries=2)
    train_trees = tasks.spark_per_model(
        "train_trees", tasks.listed("trees", plan, "train_trees"), outlets=[assets.MODEL]
    )
    evaluate = tasks.gang("evaluate", plan, outlets=[assets.REPORT])

    plan >> simulate >> ingest >> select >> prepare
    # One search or model that fails does not cost the others, nor the report on them.
    prepare >> tune >> tasks.all_of("searched", plan) >> [train, train_trees]
    prepare >> [train, train_trees] >> tasks.all_of("trained", plan) >> evaluate
    prepare >> evaluate
    if (clean_up := tasks.clean_up()) is not None:
        # It waits for each of them: one that fails ends those after it, but not its siblings, which still run.
        [simulate, ingest, select, prepare, tune, train, train_trees, evaluate] >> clean_up
