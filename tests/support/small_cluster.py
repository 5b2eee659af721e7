"""The profile ``kubernetes`` for a small cluster and a namespace with our chart in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from support.airflow_environment import CONFIG_FOLDER
from support.charts import RELEASE
from support.cluster import Namespace, image, new_namespace
from support.releases import installed, values_for

CORES = {"cpu": "100m"}
MEMORY = {"memory": "2Gi"}


@contextmanager
def small_cluster(purpose: str, base: Path) -> Iterator[Namespace]:
    """A namespace with our chart, without its servers, while the block lasts; pods see ``base`` under its own path."""
    values = values_for(base) | {"tensorboard": {"enabled": False}, "historyServer": {"enabled": False}}
    values["storage"]["mountPath"] = str(base)
    with new_namespace(purpose) as made, installed(made, values):
        yield made


def small_profile(base: Path, namespace: Namespace) -> dict[str, Any]:
    """Values of the profile.

    Args:
        base: Where pods mount the volume of all data.
        namespace: With the chart's release.
    """
    values: dict[str, Any] = yaml.safe_load((CONFIG_FOLDER / "kubernetes.yaml").read_text())
    values["base"] = str(base)
    values["spark"]["master"] = f"k8s://{namespace.core.api_client.configuration.host}"
    values["spark"]["conf"] |= {
        "spark.executor.instances": "1",
        "spark.executor.cores": "1",
        "spark.executor.memory": "600m",
        "spark.executor.memoryOverhead": "400m",
        "spark.driver.memory": "600m",
        "spark.kubernetes.driver.request.cores": "100m",
        "spark.kubernetes.executor.request.cores": "100m",
        "spark.kubernetes.authenticate.driver.serviceAccountName": f"{RELEASE}-spark",
        "spark.kubernetes.authenticate.executor.serviceAccountName": f"{RELEASE}-training",
        "spark.eventLog.dir": f"file:{base}/spark-events",
    }
    pods = values["kubernetes"]
    pods["namespace"], pods["claim"] = namespace.name, f"{RELEASE}-base"
    pods["images"] |= {"spark": image("spark"), "training": image("training")}
    pods["gang"] |= {"requests": CORES | MEMORY, "limits": {"cpu": "1"} | MEMORY}
    return values
