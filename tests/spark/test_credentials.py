"""Spark writes down neither the environment of its processes nor what it makes of their keys for S3."""

import os
import subprocess
import sys

from support.repository import REPOSITORY

MARKER = "marker5f2c"
SESSION = """
import os, sys
from toposieve.spark.session import spark_session
with spark_session("credentials", "local[1]") as spark:
    found = spark.sparkContext.parallelize([0], 1).map(lambda _: os.environ["AWS_SECRET_ACCESS_KEY"][:6]).collect()
    print("executors have", *found)
"""


def test_event_logs_and_output_show_no_key(tmp_path):
    events = {"enabled": "true", "dir": f"file:{tmp_path}", "compress": "false"}
    submit = " ".join([*(f"--conf spark.eventLog.{key}={value}" for key, value in events.items()), "pyspark-shell"])
    keys = {name: MARKER for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
    environment = {**os.environ, **keys, "PYTHONPATH": str(REPOSITORY / "jobs"), "PYSPARK_SUBMIT_ARGS": submit}
    done = subprocess.run(
        [sys.executable, "-c", SESSION], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert "executors have marker" in done.stdout
    logs = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"SparkListenerEnvironmentUpdate" in log for log in logs)
    for text in (*logs, done.stdout.encode()):
        assert MARKER.encode() not in text
