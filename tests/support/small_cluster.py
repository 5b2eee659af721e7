"""Our chart in a namespace of a real cluster, with pods that are small, and the deployment profile that it makes."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from support.charts import RELEASE
from support.cluster import Namespace, new_namespace
from support.releases import OUR_IMAGES, installed, volume_on

CORES = {"cpu": "100m"}
MEMORY = {"memory": "2Gi"}
CONF = {
    "spark.executor.instances": "1",
    "spark.executor.cores": "1",
    "spark.executor.memory": "600m",
    "spark.executor.memoryOverhead": "400m",
    "spark.driver.memory": "600m",
    "spark.kubernetes.driver.request.cores": "100m",
    "spark.kubernetes.executor.request.cores": "100m",
}


def workers_with(requests: dict[str, str], limits: dict[str, str]) -> dict[str, Any]:
    """Resources of a gang's workers, in the chart's values."""
    worker = {"name": "base", "resources": {"requests": requests, "limits": limits}}
    return {"gang": {"spec": {"containers": [worker]}}}


SMALL: dict[str, Any] = {
    "profile": {"spark": {"conf": CONF}},
    "pods": workers_with(CORES | MEMORY, {"cpu": "1"} | MEMORY),
}
"""What differs from the chart's own values."""


def same_path(base: Path) -> dict[str, Any]:
    """Where all data lies, in the chart's values: a volume that pods see under the same path as this machine."""
    return volume_on(base) | {"mountPath": str(base)}


@contextmanager
def small_cluster(purpose: str, storage: Mapping[str, Any], **values: Any) -> Iterator[Namespace]:
    """A namespace with our chart, without its servers, while the block lasts.

    Args:
        purpose: Part of the namespace's name.
        storage: Where all data lies, as in the chart's values.
        values: Further values of the chart.
    """
    servers = {"tensorboard": {"enabled": False}, "historyServer": {"enabled": False}}
    no_logs = {"logs": {"enabled": False}}
    values = {"images": OUR_IMAGES, **servers, **SMALL, "airflow": no_logs, "storage": storage, **values}
    with new_namespace(purpose) as made, installed(made, values):
        yield made


def chart_profile(namespace: Namespace) -> dict[str, Any]:
    """The profile that the chart has made, for an Airflow outside the cluster; its pods stay until all tests end."""
    files = namespace.core.read_namespaced_config_map(f"{RELEASE}-profile", namespace.name).data
    text = files.pop("kubernetes.yaml").replace("/opt/toposieve/", "")  # the paths of Airflow's image
    values: dict[str, Any] = yaml.safe_load(text)
    folder = Path(tempfile.mkdtemp(prefix="toposieve-pods-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    values["kubernetes"]["pods"] = {role: str(folder / file) for role, file in values["kubernetes"]["pods"].items()}
    values["spark"]["master"] = f"k8s://{namespace.core.api_client.configuration.host}"
    return values
