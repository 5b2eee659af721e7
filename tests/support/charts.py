"""Our Helm chart, rendered by Helm's own library. Needs no cluster."""

from typing import Any

import helm_python
import yaml

from support.repository import REPOSITORY

CHART = REPOSITORY / "helm" / "toposieve"
AIRFLOW_VALUES = REPOSITORY / "helm" / "airflow-values.yaml"
AIRFLOW_WITHOUT_VOLUME = REPOSITORY / "helm" / "airflow-without-volume.yaml"
LAPTOP_VALUES = REPOSITORY / "helm" / "laptop.yaml"
KIND = REPOSITORY / "helm" / "kind.yaml"
RELEASE, NAMESPACE = "toposieve", "toposieve"

EVERYTHING: dict[str, Any] = {
    "images": {
        "prefix": "registry.example.org/toposieve-",
        "tag": "7",
        "training": "training-gpu",
        "pullSecrets": ["registry"],
    },
    "serviceAccounts": {"spark": {"annotations": {"example.org/role": "reader"}}},
    "storage": {"hostPath": "/srv/toposieve", "size": "1Gi"},
    "quota": {"pods": "100", "requests.nvidia.com/gpu": 8},
    "priorityClasses": {"training": {"value": 1000}},
    "kueue": {"enabled": True, "clusterQueue": "gpus"},
    "profile": {"spark": {"conf": {"spark.executor.instances": "8"}}},
}
"""Values that switch everything on."""

NOTHING: dict[str, Any] = {
    "networkPolicy": {"enabled": False},
    "historyServer": {"enabled": False},
    "tensorboard": {"enabled": False},
}
"""Values that leave accounts, rights, storage and profile only."""


WITHOUT_VOLUME: dict[str, Any] = {
    "storage": {
        "kind": "s3",
        "url": "s3://lhc/toposieve",
        "raw": "root://eos.example.org//store/raw",
        "secret": "toposieve-store",
        "variables": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    },
    "historyServer": {"enabled": False},
    "tensorboard": {"enabled": False},
}
"""Values for all data in an object store."""


def render_files(values: dict[str, Any]) -> dict[str, str]:
    """Template → its text."""
    with helm_python.Chart.load(str(CHART)) as chart:
        texts = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    return {path.rsplit("/", 1)[-1]: text for path, text in sorted(texts.items())}


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """All objects."""
    files = render_files(values)
    del files["NOTES.txt"]
    return [each for text in files.values() for each in yaml.safe_load_all(text) if each]


def find(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one object of this kind and name."""
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    return found
