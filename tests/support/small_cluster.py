"""Our chart in a namespace of a real cluster, with pods that are small, and the deployment profile that it makes."""

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
SMALL: dict[str, Any] = {
    "spark": {
        "conf": {
            "spark.executor.instances": "1",
            "spark.executor.cores": "1",
            "spark.executor.memory": "600m",
            "spark.executor.memoryOverhead": "400m",
            "spark.driver.memory": "600m",
            "spark.kubernetes.driver.request.cores": "100m",
            "spark.kubernetes.executor.request.cores": "100m",
        }
    },
    "kubernetes": {"gang": {"requests": CORES | MEMORY, "limits": {"cpu": "1"} | MEMORY}},
}
"""What differs from the chart's profile."""


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
    values = {"images": OUR_IMAGES, **servers, "profile": SMALL, "storage": storage, **values}
    with new_namespace(purpose) as made, installed(made, values):
        yield made


def chart_profile(namespace: Namespace) -> dict[str, Any]:
    """The profile that the chart has made, for an Airflow outside the cluster."""
    made = namespace.core.read_namespaced_config_map(f"{RELEASE}-profile", namespace.name).data["kubernetes.yaml"]
    values: dict[str, Any] = yaml.safe_load(made)
    values["spark"]["master"] = f"k8s://{namespace.core.api_client.configuration.host}"
    return values
