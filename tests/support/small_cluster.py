"""The profile ``kubernetes`` for a small cluster and a namespace with our chart in it."""

from pathlib import Path
from typing import Any

import yaml

from support.airflow_environment import CONFIG_FOLDER
from support.charts import RELEASE
from support.cluster import Namespace, image

CORES = {"cpu": "100m"}
MEMORY = {"memory": "2Gi"}


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
        "spark.driver.memory": "600m",
        "spark.kubernetes.driver.request.cores": "100m",
        "spark.kubernetes.executor.request.cores": "100m",
        "spark.kubernetes.authenticate.driver.serviceAccountName": f"{RELEASE}-spark",
        "spark.eventLog.dir": f"file:{base}/spark-events",
    }
    pods = values["kubernetes"]
    pods["namespace"], pods["claim"] = namespace.name, f"{RELEASE}-base"
    pods["images"] |= {"spark": image("spark"), "training": image("training")}
    pods["gang"] |= {"requests": CORES | MEMORY, "limits": {"cpu": "1"} | MEMORY}
    return values
