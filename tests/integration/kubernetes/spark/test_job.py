"""A Spark job on Kubernetes with our images, accounts and rights, submitted from Airflow's image."""

from support.charts import RELEASE
from support.cluster import wait_for
from support.published import newest_manifest
from support.spark_submission import driver_log, submit


def test_driver_and_executor_do_the_work_and_leave_no_executor(submitter, folder):
    stored = ("--set", "store_events=true")  # to find three files alone needs no executor
    job = ["local:///opt/toposieve/jobs/ingest.py", "--base", "/data", "--partition", "2026-01-01", *stored]
    logging = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": "file:/data/spark-events"}
    done = submit(submitter, *job, **logging)
    assert "phase: Succeeded" in done.output, done.output + driver_log(submitter, done)
    assert len(newest_manifest(folder / "events/2026-01-01")["units"]) == 3
    wait_for(lambda: not submitter.names("pod", "spark-role=executor"))
    wait_for(lambda: "toposieve-ingest" in submitter.get(f"{RELEASE}-history", 18080, "api/v1/applications"))
