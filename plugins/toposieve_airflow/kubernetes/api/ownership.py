"""Whose something on a cluster is: labels, annotations and names of what a task makes there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value

from toposieve_airflow.runs.naming import short_hash

Manifest = dict[str, Any]

MANAGED_BY = {"app.kubernetes.io/managed-by": "toposieve"}
"""Label of everything that is made here."""

INSTANCE_LABEL = "toposieve/instance"
"""Label of what one Airflow makes in a namespace, where another may have DAGs and runs of the same names."""

TRY_LABEL = "try_number"

DIGEST_LABEL = "toposieve/digest"
"""Label that changes with anything in a Job's pods, or a driver's: only the same work is taken over after a restart."""

OWNER_ANNOTATION = "toposieve/owner"
"""Annotation with what no two Airflows and no two runs share: task instance and try that answer for a Job or driver."""

NAME_LENGTH = 52
"""Longest name of a Job: a pod's hostname adds its index and has to stay below 64 characters."""


def owner_name(ti: Any) -> str:
    """A task instance and its try, as the annotation names them."""
    return f"{ti.id}/{ti.try_number}"


def owner_of(thing: Mapping[str, Any]) -> str:
    """Task instance and try that answer for a Job or a driver; empty if it does not say."""
    return str(thing["metadata"].get("annotations", {}).get(OWNER_ANNOTATION, ""))


def deletion_of(thing: Mapping[str, Any]) -> Manifest:
    """What a request to delete a Job or a driver says: as it was read and no other, and its pods with it."""
    as_read = {key: thing["metadata"][key] for key in ("uid", "resourceVersion")}
    return {"propagationPolicy": "Background", "preconditions": as_read}


def metadata(owner: str, try_number: str) -> Manifest:
    """What the metadata of a Job or a driver says of the try that answers for it."""
    return {"labels": {TRY_LABEL: try_number}, "annotations": {OWNER_ANNOTATION: owner}}


def is_in_the_way(thing: Mapping[str, Any], owner: str, try_number: int) -> bool:
    """Whether a Job or a driver with a task's labels is neither this try's nor one's that it follows."""
    return owner_of(thing) != owner and int(thing["metadata"]["labels"].get(TRY_LABEL, 0)) >= try_number


def is_same_work(thing: Mapping[str, Any], digest: str) -> bool:
    """Whether a Job or a driver does what another one of this digest would do."""
    return bool(thing["metadata"]["labels"].get(DIGEST_LABEL) == digest)


def task_selector(labels: Mapping[str, str]) -> str:
    """Label selector of what a task instance with these labels has made, whichever try did."""
    return _selector({key: value for key, value in labels.items() if key != TRY_LABEL})


def run_selector(ti: Any, instance: str | None = None) -> str:
    """Label selector of all that the run of a task instance has made."""
    return _selector({**run_labels(ti), **instance_label(instance)})


def run_labels(ti: Any) -> dict[str, str]:
    """Labels of everything that a run makes, as KubernetesPodOperator writes them."""
    return {key: make_safe_label_value(getattr(ti, key)) for key in ("dag_id", "run_id")}


def instance_label(instance: str | None) -> dict[str, str]:
    """The label of everything that an Airflow makes, if it has a name."""
    return {} if instance is None else {INSTANCE_LABEL: instance}


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted({**labels, **MANAGED_BY}.items()))


def task_hash(ti: Any, instance: str | None) -> str:
    """What stands for a task instance in names: another one in every Airflow that has a name."""
    map_index = -1 if ti.map_index is None else ti.map_index
    return short_hash([ti.dag_id, ti.run_id, ti.task_id, map_index, *([] if instance is None else [instance])])


def work_name(ti: Any, instance: str | None) -> str:
    """Name of what a try makes, another one for each: a valid host name (DNS-1035), such as ``train-3ad7e7ae-2``."""
    ending = f"-{task_hash(ti, instance)}-{ti.try_number}"
    readable = re.sub(r"[^a-z0-9]+", "-", ti.task_id.lower()).lstrip("-0123456789") or "gang"
    return readable[: NAME_LENGTH - len(ending)].rstrip("-") + ending
