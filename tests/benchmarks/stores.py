"""Every Spark stage on remote stores, on servers of this machine, against the same on its disk.

The stages run in a process of their own, which this file is: the servers' work is not theirs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.inputs import PARTITION, SELECTED_EVENTS, Bench, simulate
from benchmarks.jobs import run_job
from benchmarks.measure import measured
from benchmarks.table import Figure
from support.servers.hdfs_server import HadoopServer
from support.servers.processes import Unobtainable
from support.servers.s3_server import BUCKET, S3Server

SLOWER_AT_MOST = 1.3


def rows(bench: Bench) -> Sequence[Figure]:
    """One row per kind of store, ingest, select and prepare together, warm."""
    for sample in SELECTED_EVENTS:
        simulate(bench.base, sample)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="toposieve-bench-")))
        try:
            s3, hdfs = S3Server(folder / "s3"), HadoopServer(folder / "hdfs")
        except Unobtainable as reason:
            print(f"stores left out: {reason}")
            return []
        stack.callback(s3.stop)
        stack.callback(hdfs.stop)
        urls = [str(folder / "local"), f"s3://{BUCKET}/bench", f"{hdfs.wait().url}/bench"]
        environment = {**os.environ, **s3.wait().environment, **hdfs.environment}
        command = [sys.executable, "-m", "benchmarks.stores", str(bench.base / "raw"), *urls]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return list(_rows(json.loads(done.stdout.splitlines()[-1])))


def _rows(measurements: Sequence[tuple[int, dict[str, float]]]) -> Iterator[Figure]:
    rates = [events / usage["cpu_seconds"] for events, usage in measurements]
    for kind, rate in zip(("disk", "S3", "HDFS"), rates, strict=True):
        must = None if kind == "disk" else rates[0] / SLOWER_AT_MOST
        yield Figure(f"ROOT → TFRecord shards, base on {kind}", rate, "events/s", rates[0], must)


def main(raw: str, urls: Sequence[str]) -> None:
    """Run the stages on each base twice, and print what the second time took."""
    from toposieve.io.manifests import read_manifest
    from toposieve.io.store import root_key
    from toposieve.spark.session import spark_session

    measurements = []
    with spark_session("stores"):
        for url in urls:
            _run_stages(raw, url)
            with measured() as usage:
                _run_stages(raw, url)
            events = read_manifest(root_key("--base", url) / "events" / PARTITION).total("events")
            measurements.append((events, dataclasses.asdict(usage)))
    print(json.dumps(measurements))


def _run_stages(raw: str, base: str) -> None:
    run_job("ingest", base, "--raw", raw, "--partition", PARTITION, "--recompute")
    run_job("select_events", base, "--raw", raw, "--partition", PARTITION, "--recompute")
    run_job("prepare_features", base, "--partitions", PARTITION, "--dataset", "bench", "--recompute")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
