"""The DAG of anybody's scripts, in a real Airflow that has the rights of the chart's account and no more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.charts import RELEASE
from support.cluster import OURS, Namespace, wait_for
from support.real_airflow import RealAirflow, real_airflow
from support.releases import shared_folder
from support.small_cluster import chart_profile, same_path, small_cluster
from toposieve_airflow.runs.script import MOST_BYTES

from .conftest import IMAGE

DAG = "spawn_training"
SCRIPT = """
import os, pathlib, sys
worker, folder = os.environ["WORKER_NUMBER"], pathlib.Path(sys.argv[1])
print("colour", os.environ["COLOUR"], "of", os.environ["TOT_WORKERS"])
(folder / "output" / worker).write_text("done")
try:
    (folder / "anywhere").write_text("x")
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data, with a script: the same path here and in every pod."""
    folder = shared_folder(tmp_path_factory.mktemp("storage"))
    for name in ("scripts", "output"):
        (folder / name).mkdir()
    (folder / "output").chmod(0o777)
    files = {"mine.py": SCRIPT, "env": "COLOUR=blue\n", "large.py": "#" * (MOST_BYTES + 1)}
    for name, text in files.items():
        (folder / "scripts" / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def namespace(base: Path) -> Iterator[Namespace]:
    spawn = {"images": [IMAGE], "scripts": str(base / "scripts"), "output": str(base / "output"), "packages": None}
    spawn |= {"pods": {"cpu": "gang-pod.yaml", "gpu": None}}
    with small_cluster("spawn", same_path(base), profile={"kubernetes": {"spawn": spawn}}) as made:
        yield made


@pytest.fixture(scope="module")
def airflow(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAirflow]:
    folder = tmp_path_factory.mktemp("airflow")
    account = namespace.kubeconfig(f"{RELEASE}-runner", folder / "kubeconfig")
    profile = chart_profile(namespace)
    profile["kubernetes"]["spawn"]["pods"]["cpu"] = profile["kubernetes"]["pods"]["gang"]
    with real_airflow(folder, profile, [DAG], KUBECONFIG=str(account)) as made:
        yield made


def test_a_script_is_run_as_the_form_says_and_leaves_its_output_alone(
    airflow: RealAirflow, namespace: Namespace, base: Path
) -> None:
    conf = {"script": "mine.py", "arguments": [str(base)], "environment_file": "env", "workers": 2}
    run = airflow.start(DAG, "whole", conf)
    assert run.wait() == "success", run.failures()
    (task,) = run.tasks("train")
    lines = run.lines(task)
    assert {f"[worker {worker}] colour blue of 2" for worker in range(2)} <= set(lines)
    assert sum("Read-only file system" in line for line in lines) == 2
    assert {path.name for path in (base / "output").iterdir()} == {"0", "1"}
    kinds = ("job", "pod", "service", "config_map", "secret")
    wait_for(lambda: not any(namespace.names(kind, OURS) for kind in kinds))


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"script": "none.py"}, "none.py: No such file or directory"),
        ({"script": "large.py"}, "large.py is larger than the 1 MiB"),
        ({"script": "mine.py", "accelerator": "gpu"}, "there is no pod for accelerator gpu"),
    ],
    ids=str,
)
def test_a_form_that_is_wrong_fails_before_anything_starts(
    airflow: RealAirflow, conf: dict[str, Any], message: str
) -> None:
    run = airflow.start(DAG, message.split()[0].strip(":"), conf)
    assert run.wait() == "failed"
    assert message in run.failures()
    assert run.tasks("train")[0]["state"] == "upstream_failed"
