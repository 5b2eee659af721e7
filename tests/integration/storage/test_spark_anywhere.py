"""The same jobs on a standalone cluster that loses a worker, and on YARN with HDFS: identical bytes."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from support import chain
from support.held_jobs import PATH, Hold, RunningJob, submitted_job
from support.kill_points import Order, run_apart
from support.repository import REPOSITORY
from support.servers.hdfs_server import HadoopServer
from support.servers.spark_cluster import HOME, SparkCluster
from toposieve.io.store import Key, root_key
from toposieve.spark.java import java_home

QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
SMALL = {
    "spark.executor.extraJavaOptions": QUICK,
    "spark.executor.memory": "512m",
    "spark.driver.memory": "512m",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.executor.cores": "1",
    "spark.sql.warehouse.dir": "/tmp/toposieve-warehouse",
}
Run = Callable[..., RunningJob]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base on this machine, ingested and selected without Spark."""
    base = tmp_path_factory.mktemp("undisturbed")
    chain.write_raw(base / "raw")
    for job, options in (("ingest", chain.INGEST), ("select_events", chain.SELECT)):
        assert run_apart(Order(job, ("--base", str(base), *options), base / "log")) == 0
    return base


@pytest.fixture
def raw(undisturbed: Path) -> Path:
    return undisturbed / "raw"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    cluster = SparkCluster(tmp_path_factory.mktemp("cluster"), {"PYTHONPATH": PATH})
    try:
        yield cluster.wait()
    finally:
        cluster.stop()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts a job, which is gone after the test."""
    jobs: list[RunningJob] = []
    general = {"JAVA_HOME": str(java_home()), "PYSPARK_PYTHON": sys.executable, "SPARK_HOME": str(HOME)}

    def run(conf: dict[str, str], script: str, *arguments: str, **environment: str) -> RunningJob:
        command = submitted_job({**SMALL, **conf}, script, *arguments)
        jobs.append(RunningJob(command, tmp_path / f"{len(jobs)}.log", {**general, **environment}))
        return jobs[-1]

    yield run
    for job in jobs:
        job.kill()


def on(cluster: SparkCluster, hold: Hold, **conf: str) -> dict[str, str]:
    held = {f"spark.executorEnv.{name}": value for name, value in hold.environment.items()}
    return {"spark.master": cluster.url, **held, **conf}


def assert_same(stage: str, base: str, undisturbed: Path) -> None:
    folder = chain.FOLDERS[stage]
    assert chain.published(root_key("--base", base) / folder) == chain.published(Key(str(undisturbed)) / folder)


def test_a_cluster_that_loses_a_worker(
    cluster: SparkCluster, run: Run, raw: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Both executors hold a unit; one is killed with it, the other goes on."""
    hold, base = Hold(tmp_path / "hold", free=2), str(tmp_path / "base")
    conf = on(cluster, hold)
    job = run(conf, "ingest.py", "--base", base, "--raw", str(raw), *chain.INGEST, **hold.environment)
    hold.wait(held=2, done=2)
    cluster.kill_worker(0)
    hold.end()
    said = job.finish()
    cluster.revive_worker(0)
    assert "Lost executor" in said
    assert len(hold.units("done")) == len(set(hold.units("done"))) == chain.UNITS
    assert_same("ingest", base, undisturbed)


def test_dynamic_allocation(cluster: SparkCluster, run: Run, undisturbed: Path, tmp_path: Path) -> None:
    """No executor at first; two units are held at once, so two have come; idle ones go."""
    hold, base = Hold(tmp_path / "hold", free=0, most=2), tmp_path / "base"
    (base / "events").mkdir(parents=True)
    (base / "events" / chain.DAY).symlink_to(undisturbed / "events" / chain.DAY)
    dynamic = {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "0",
        "spark.dynamicAllocation.executorIdleTimeout": "1s",
    }
    conf = on(cluster, hold, **dynamic)
    job = run(conf, "select_events.py", "--base", str(base), *chain.SELECT, **hold.environment)
    hold.wait(held=2)
    hold.end()
    job.finish()
    assert sorted(hold.units("done")) == sorted(set(hold.units("done")))
    assert_same("select", str(base), undisturbed)


def test_speculation(cluster: SparkCluster, run: Run, raw: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A unit hangs at its first attempt; a second one, on the other host, finishes it."""
    hold, base = Hold(tmp_path / "hold", free=2, most=1), str(tmp_path / "base")
    speculation = {
        "spark.speculation": "true",
        "spark.speculation.quantile": "0.5",
        "spark.speculation.multiplier": "1.1",
        "spark.speculation.interval": "200ms",
    }
    conf = on(cluster, hold, **speculation)
    job = run(conf, "ingest.py", "--base", base, "--raw", str(raw), *chain.INGEST, **hold.environment)
    said = job.finish()
    (hung,) = hold.units("held")
    assert hung in hold.units("done")  # by another process, while the first was held
    hold.end()
    assert "speculat" in said
    assert_same("ingest", base, undisturbed)


def test_yarn_with_hdfs(yarn_server: HadoopServer, run: Run, raw: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Executors take their Python and our library from archives, as the profile for YARN wants it."""
    base, conf = f"{yarn_server.url}/base", on_yarn(tmp_path)
    for path in raw.rglob("*.root"):
        (root_key("--base", base) / "raw" / path.relative_to(raw).as_posix()).write_bytes(path.read_bytes())
    run(conf, "ingest.py", "--base", base, *chain.INGEST, **yarn_server.environment).finish()
    run(conf, "select_events.py", "--base", base, *chain.SELECT, **yarn_server.environment).finish()
    assert (tmp_path / "used").exists()
    assert_same("ingest", base, undisturbed)
    assert_same("select", base, undisturbed)


def on_yarn(folder: Path) -> dict[str, str]:
    """Settings of the profile. The archived environment leads to this machine's, which has gigabytes."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\necho >> {folder}/used\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with tarfile.open(folder / "environment.tar.gz", "w:gz") as archive:
        archive.add(python, "bin/python")
    with tarfile.open(folder / "jobs.tar.gz", "w:gz") as archive:
        archive.add(REPOSITORY / "jobs" / "toposieve", "toposieve")
    profile = yaml.safe_load((REPOSITORY / "dags" / "config" / "yarn.yaml").read_text(encoding="utf-8"))
    settings = {name: value.replace(profile["base"], str(folder)) for name, value in profile["spark"]["conf"].items()}
    java = {name: str(java_home()) for name in settings if name.endswith("JAVA_HOME")}
    size = {
        **{"spark.executor.instances": "1", "spark.executor.memoryOverhead": "512m"},
        **{"spark.yarn.am.memory": "256m", "spark.yarn.am.extraJavaOptions": QUICK},
    }
    jars = {"spark.yarn.jars": f"local:{HOME}/jars/*"}  # else a third of a gigabyte is copied for each job
    driver = {"spark.master": profile["spark"]["master"], "spark.pyspark.driver.python": sys.executable}
    return {**settings, **java, **size, **jars, **driver, **SMALL}
