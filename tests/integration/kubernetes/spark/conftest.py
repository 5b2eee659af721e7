"""Our chart in a namespace of a real cluster, a day's raw files on its volume, and a pod that submits Spark jobs."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.airflow_environment import REPOSITORY
from support.charts import RELEASE
from support.cluster import Namespace, image, new_namespace, pod_spec
from support.releases import installed, shared_folder, values_for
from support.small_cluster import SMALL
from support.spark_submission import SUBMITTER, TEMPLATE

CLAIM = f"{RELEASE}-base"
ANY_USER = 12345


WRITE_EVENTS = """
import sys
from pathlib import Path
from support.delphes_files import realistic_collections, write_collections
for path in sys.argv[1:]:
    write_collections(Path(path), realistic_collections(seed=1, events=100))
"""


@pytest.fixture(scope="package")
def folder(tmp_path_factory) -> Path:
    """What the pods see as /data, with the day's raw files in it."""
    made = shared_folder(tmp_path_factory.mktemp("storage"))
    files = [made / "raw" / sample / "2026-01-01" / "events.root" for sample in ("qcd", "ttbar", "wjets")]
    path = os.pathsep.join(str(REPOSITORY / each) for each in ("tests", "jobs"))
    command = [REPOSITORY / ".venv-jobs/bin/python", "-c", WRITE_EVENTS, *files]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=True)
    return made


@pytest.fixture(scope="package")
def namespace(folder: Path) -> Iterator[Namespace]:
    values = values_for(folder) | {"tensorboard": {"enabled": False}} | SMALL
    with new_namespace("spark") as made, installed(made, values):
        yield made


@pytest.fixture(scope="package")
def submitter(namespace: Namespace) -> Namespace:
    """A pod of Airflow's image, under the account of Airflow's tasks and a user id that nobody foresaw."""
    spec = pod_spec(image("airflow"), CLAIM, args=["sleep", "3600"]) | {"serviceAccountName": f"{RELEASE}-runner"}
    spec["securityContext"] = {**spec["securityContext"], "runAsUser": ANY_USER, "runAsGroup": ANY_USER}
    namespace.start(SUBMITTER, image("airflow"), **spec)
    namespace.wait_until_running(SUBMITTER)
    template = json.dumps({"apiVersion": "v1", "kind": "Pod", "spec": pod_spec(image("spark"), CLAIM)})
    namespace.execute(SUBMITTER, "sh", "-c", f"echo '{template}' > {TEMPLATE}")
    return namespace
