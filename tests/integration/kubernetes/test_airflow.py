"""Gangs in a real Airflow: mapped, in a queue, killed from the UI, cleared, and taken over when Airflow itself dies."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.charts import RELEASE
from support.cluster import INDEX_LABEL, OURS, Namespace, admission, admit, wait_for
from support.cluster_training import TRAINING, write_small_dataset
from support.real_airflow import DagRun, RealAirflow, real_airflow
from support.releases import shared_folder
from support.small_cluster import chart_profile, same_path, small_cluster

from .conftest import IMAGE

pytestmark = pytest.mark.faults

LONG = 60
"""Steps of half a second."""

COUNT = """
import sys, time
for i in range(int(sys.argv[1])):
    print("step", i, flush=True)
    time.sleep(.5)
"""
DRIVER = "spark-role=driver"

MODELS = ["hlf", "particle_sequence"]

SOON = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "2",
}
"""Airflow notices within seconds that one of its own processes is gone. Heartbeats come every 5 s, and are on record
when the next one comes: up to 10 s late."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data: the same path here and in every pod."""
    folder = shared_folder(tmp_path_factory.mktemp("storage"))
    write_small_dataset(folder / "datasets/small")
    return folder


@pytest.fixture(scope="module")
def namespace(base: Path) -> Iterator[Namespace]:
    with small_cluster("airflow", same_path(base)) as made:
        yield made


@pytest.fixture(scope="module")
def airflow(namespace: Namespace, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAirflow]:
    """An Airflow that runs the DAGs beside this file with the rights of the chart's account and no more."""
    folder = tmp_path_factory.mktemp("airflow")
    profile = chart_profile(namespace)
    account = namespace.kubeconfig(f"{RELEASE}-runner", folder / "kubeconfig")
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(account)}}
    settings = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "KUBECONFIG": str(account),  # for spark-submit
        "TOPOSIEVE_TEST_IMAGE": IMAGE,
    }
    with real_airflow(folder, profile, ["counting", "queued", "driver", "training"], **settings, **SOON) as airflow:
        yield airflow


@pytest.fixture
def start(
    airflow: RealAirflow, namespace: Namespace, request: pytest.FixtureRequest
) -> Iterator[Callable[..., DagRun]]:
    """Start a run; nothing of it may be left on the cluster when the test ends."""
    yield lambda dag_id, **conf: airflow.start(dag_id, request.node.name, conf)
    namespace.check_empty()


def gang_lines(run: DagRun, map_index: int, start: str = "[worker 1] step ") -> list[str]:
    """Ends of the lines that begin so in the log of a gang's present try."""
    lines = run.lines(run.tasks("train")[map_index])
    return [line.removeprefix(start) for line in lines if line.startswith(start)]


def wait_for_line(run: DagRun, text: str) -> None:
    """Wait until both gangs have logged something."""
    for index in range(2):
        wait_for(lambda index=index: any(text in line for line in gang_lines(run, index, "")))


def states(run: DagRun) -> list[str]:
    return [task["state"] for task in run.tasks("train")]


def tries(run: DagRun) -> list[int]:
    return [task["try_number"] for task in run.tasks("train")]


def assert_taken_over(run: DagRun) -> None:
    for index in range(2):
        assert gang_lines(run, index, "taking over gang ")


# --- gangs that start at once ----------------------------------------------------------------------------------------


def test_mapped_gangs(start: Callable[..., DagRun]) -> None:
    run = start("counting", steps=4)
    assert run.wait() == "success"
    for index in range(2):
        assert gang_lines(run, index) == ["0", "1", "2", "3"]
    path = f"/dags/counting/dagRuns/{run.run_id}/taskInstances/train/xcomEntries/gang"
    xcom = run.airflow.api.get(path, map_index=1, deserialize=True)
    assert xcom["value"]["workers"] == {"0": "terminated", "1": "terminated"}


def test_a_task_process_that_dies_is_followed_by_one_that_takes_over(
    start: Callable[..., DagRun], airflow: RealAirflow
) -> None:
    run = start("counting", steps=LONG)
    wait_for_line(run, "step 2")
    for executor in airflow.process("scheduler").children():
        for task in executor.children():
            task.kill()
    assert run.wait() == "success"
    assert_taken_over(run)
    for index in range(2):
        assert gang_lines(run, index) == [str(i) for i in range(LONG)]


@contextmanager
def away(airflow: RealAirflow) -> Iterator[None]:
    """Let Airflow's API server be away for so long that the supervisor of each task gives up; then the block runs."""
    scheduler = airflow.process("scheduler")
    executors = scheduler.children()
    scheduler.suspend()  # it would start, and lose, one try after the other
    airflow.kill("api-server")
    wait_for(lambda: not any(executor.children() for executor in executors))
    yield
    airflow.start_again("api-server")
    wait_for(airflow.api.health)
    scheduler.resume()


def test_gangs_outlive_an_airflow_that_is_away_for_longer_than_their_tasks_wait(
    start: Callable[..., DagRun], airflow: RealAirflow, namespace: Namespace
) -> None:
    run = start("counting", steps=3 * LONG)
    wait_for_line(run, "step 2")
    jobs = namespace.names("job")
    with away(airflow):
        assert namespace.names("job") == jobs
    assert run.wait() == "success"
    assert_taken_over(run)
    for index in range(2):
        assert gang_lines(run, index) == [str(i) for i in range(3 * LONG)]


def test_a_driver_outlives_an_airflow_that_is_away_for_longer_than_its_task_waits(
    start: Callable[..., DagRun], airflow: RealAirflow, namespace: Namespace, base: Path
) -> None:
    (base / "count.py").write_text(COUNT)
    run = start("driver", steps=3 * LONG)
    wait_for(lambda: "step 2" in run.lines(*run.tasks("simulate")))
    drivers = namespace.names("pod", DRIVER)
    with away(airflow):
        assert namespace.names("pod", DRIVER) == drivers
    assert run.wait() == "success"
    lines = run.lines(*run.tasks("simulate"))
    assert f"taking over driver {drivers[0]}, which is there already" in lines
    assert [line for line in lines if line.startswith("step ")] == [f"step {i}" for i in range(3 * LONG)]


def test_an_evicted_gang_goes_on_in_the_same_try(start: Callable[..., DagRun], namespace: Namespace) -> None:
    run = start("counting", steps=LONG)
    wait_for_line(run, "step 2")
    evicted = namespace.names("pod", f"{OURS},{INDEX_LABEL}=1")[0]
    meta = {"metadata": {"name": evicted, "namespace": namespace.name}}
    namespace.core.create_namespaced_pod_eviction(evicted, namespace.name, meta)
    assert run.wait() == "success"
    assert tries(run) == [1, 1]
    assert [gang_lines(run, index)[-LONG:] for index in range(2)] == [[str(i) for i in range(LONG)]] * 2
    assert sum("costs no try" in line for index in range(2) for line in gang_lines(run, index, "")) == 1


def test_marked_failed_and_cleared_while_they_run(start: Callable[..., DagRun], namespace: Namespace) -> None:
    run = start("counting", steps=LONG)
    wait_for_line(run, "step 2")
    first, second = run.tasks("train")
    run.mark_failed(first)
    wait_for(lambda: len(namespace.names("job")) == 1)  # the run's teardown waits for the other
    run.clear("train", second["map_index"])
    assert run.wait() == "failed"
    assert states(run) == ["failed", "success"]
    assert tries(run) == [1, 2]
    assert not gang_lines(run, 1, "taking over gang ")
    assert gang_lines(run, 1) == [str(i) for i in range(LONG)]


# --- gangs that wait in a queue --------------------------------------------------------------------------------------


def wait_until_deferred(run: DagRun) -> None:
    """Wait until both gangs are watched by the triggerer."""
    wait_for(lambda: states(run) == ["deferred", "deferred"])
    wait_for_line(run, "the gang waits for its queue to admit it")


def test_a_gang_in_a_queue_takes_no_slot_of_airflow(start: Callable[..., DagRun], namespace: Namespace) -> None:
    run = start("queued", steps=4)
    wait_until_deferred(run)
    pool = run.airflow.api.get("/pools/training")
    assert (pool["deferred_slots"], pool["occupied_slots"]) == (2, 0)
    assert not namespace.names("pod")
    admit(namespace)
    assert run.wait() == "success"
    for index in range(2):
        assert gang_lines(run, index) == ["0", "1", "2", "3"]
    assert tries(run) == [1, 1]


def test_marked_failed_and_cleared_while_they_wait(start: Callable[..., DagRun], namespace: Namespace) -> None:
    run = start("queued", steps=4)
    wait_until_deferred(run)
    first, second = run.tasks("train")
    run.mark_failed(first)
    wait_for(lambda: len(namespace.objects()) == 2)  # Job and Service of the other
    (before,) = namespace.names("job")
    run.clear("train", second["map_index"])
    wait_for(lambda: namespace.names("job") not in ([before], []) and states(run)[1] == "deferred")
    admit(namespace)
    assert run.wait() == "failed"
    assert states(run) == ["failed", "success"]
    assert tries(run) == [1, 2]
    assert gang_lines(run, 1) == ["0", "1", "2", "3"]


def test_a_triggerer_that_dies_while_gangs_wait(
    start: Callable[..., DagRun], airflow: RealAirflow, namespace: Namespace
) -> None:
    run = start("queued", steps=4)
    wait_until_deferred(run)
    airflow.kill("triggerer")
    admit(namespace)
    airflow.start_again("triggerer")
    assert run.wait() == "success"
    assert tries(run) == [1, 1]
    for index in range(2):
        assert gang_lines(run, index) == ["0", "1", "2", "3"]


def test_marked_failed_while_no_triggerer_runs(start: Callable[..., DagRun], airflow: RealAirflow) -> None:
    """Then only the last task of the run can remove the gangs."""
    run = start("queued", steps=4)
    wait_until_deferred(run)
    airflow.kill("triggerer")
    for task in run.tasks("train"):
        run.mark_failed(task)
    assert run.wait() == "failed"
    airflow.start_again("triggerer")


# --- real training ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(airflow: RealAirflow, namespace: Namespace) -> dict[str, bytes]:
    """Metrics of the models after a run without a fault."""
    with admission(namespace):
        run = airflow.start("training", "undisturbed", {"models": MODELS, **TRAINING})
        assert run.wait() == "success", run.failures()
    return metrics(airflow.base)


def metrics(base: Path) -> dict[str, bytes]:
    """Model → metrics of its one run."""
    return {path.parts[-3]: path.read_bytes() for path in base.glob("models/*/*/metrics.json")}


@pytest.fixture
def training(
    start: Callable[..., DagRun], namespace: Namespace, undisturbed: dict[str, bytes], base: Path
) -> Iterator[DagRun]:
    """Two gangs in the midst of their training; in the end they have the metrics of an undisturbed run."""
    assert set(undisturbed) == set(MODELS)
    shutil.rmtree(base / "models")
    with admission(namespace):
        run = start("training", models=MODELS, **TRAINING)
        wait_for_line(run, "checkpoint at epoch 2")
        yield run
        assert run.wait() == "success", run.failures()
    assert metrics(base) == undisturbed


def assert_resumed(run: DagRun) -> None:
    """One of the gangs has gone on; the other may have ended before the first was in its second epoch."""
    ways = ("resuming from", "complete already")
    gone_on = [[way for way in ways if any(way in line for line in gang_lines(run, index, ""))] for index in range(2)]
    assert all(gone_on), gone_on
    assert [ways[0]] in gone_on, gone_on


def test_cleared_in_the_midst_of_training(training: DagRun) -> None:
    training.clear("train")
    assert training.wait() == "success"
    assert tries(training) == [2, 2]
    assert_resumed(training)


def test_marked_failed_and_cleared_later(training: DagRun, namespace: Namespace) -> None:
    for task in training.tasks("train"):
        training.mark_failed(task)
    wait_for(lambda: not namespace.objects())
    assert training.wait() == "failed"
    assert tries(training) == [1, 1]
    assert [task["state"] for task in training.tasks("clean_up")] == ["success"]
    training.clear("train")
    assert training.wait() == "success"
    assert_resumed(training)


def test_a_scheduler_that_dies_with_its_tasks(training: DagRun, airflow: RealAirflow) -> None:
    airflow.kill("scheduler")
    airflow.start_again("scheduler")
    assert training.wait() == "success"
    assert_taken_over(training)
