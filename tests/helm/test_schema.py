"""What the chart's schema refuses, and that it knows every key."""

import json
from typing import Any

import helm_python
import pytest
import yaml

from support.charts import CHART, EVERYTHING, WITHOUT_VOLUME, render
from toposieve_airflow import profile_schema

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
PODS = {"spark", "gang", "evaluation", "task"}
FREE_FORM = {"quota", "defaultRequests", "priorityClasses", "annotations", "requests", "limits", "profile", *PODS}
"""Keys whose own keys are the user's."""

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"storge": {}}, "storge"),
    ({"storage": {"mountpath": "/data"}}, "mountpath"),
    ({"storage": {"mountPath": "data"}}, "mountPath"),
    ({"storage": {"size": "much"}}, "size"),
    ({"storage": {"hostPath": "relative"}}, "hostPath"),
    ({"storage": {"existingClaim": "data", "hostPath": "/srv"}}, "hostPath"),
    ({"storage": {"kind": "nfs"}}, "kind"),
    ({"storage": {"kind": "s3"}}, "url"),
    ({"storage": {"kind": "s3", "url": "hdfs://name/data"}}, "url"),
    ({"storage": {"url": "s3://lhc/data"}}, "url"),
    ({"storage": {"kind": "hdfs", "url": "hdfs://name/data", "existingClaim": "data"}}, "existingClaim"),
    ({"storage": {"kind": "s3", "url": "s3://lhc", "hostPath": "/srv"}}, "hostPath"),
    ({"storage": {"raw": "relative"}}, "raw"),
    ({"storage": {"variables": ["AWS_ACCESS_KEY_ID"]}}, "secret"),
    ({"storage": {"secret": "store", "variables": ["aws-key"]}}, "variables"),
    ({"networkPolicy": {"storePorts": [0]}}, "storePorts"),
    ({"images": {"prefix": ""}}, "prefix"),
    ({"images": {"tag": 1}}, "tag"),
    ({"images": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"serviceAccounts": {"driver": {}}}, "driver"),
    ({"quota": {"pods": True}}, "pods"),
    ({"quota": {"request.cpu": 64}}, "request.cpu"),
    ({"defaultRequests": {"memorry": "1Gi"}}, "memorry"),
    ({"priorityClasses": {"training": {}}}, "value"),
    ({"priorityClasses": {"training": {"value": 2_000_000_000}}}, "value"),
    ({"networkPolicy": {"dnsPorts": [0]}}, "dnsPorts"),
    ({"networkPolicy": {"dnsPorts": []}}, "dnsPorts"),  # would be every port
    ({"kueue": {"enabled": True}}, "clusterQueue"),
    ({"historyServer": {"resources": {"cpu": "1"}}}, "cpu"),
    ({"historyServer": {"resources": {"limits": {"memorry": "1Gi"}}}}, "memorry"),
    ({"historyServer": {"heap": "half a gigabyte"}}, "heap"),
    ({"historyServer": {"keepFor": "30"}}, "keepFor"),
    ({"profile": "base: /data"}, "profile"),
    ({"profile": {"pols": {}}}, "pols"),
    ({"profile": {"spark": {"conff": {}}}}, "conff"),
    ({"profile": {"spark": {"conf": {"spark.executor.instances": 8}}}}, "instances"),
    ({"profile": {"timeouts_min": {"train": 0}}}, "train"),
    ({"profile": {"kubernetes": {"gang": {"tolerations": []}}}}, "gang"),
    ({"airflow": {"namespace": "Airflow"}}, "namespace"),
    ({"airflow": {"logs": {"hostPath": "relative"}}}, "hostPath"),
    ({"images": {"training": "gpu"}}, "training"),
    ({"serve": {"enabled": True}}, "brokers"),
    ({"serve": {"replicas": 0}}, "replicas"),
    ({"pods": {"gangs": {}}}, "gangs"),
    ({"pods": {"gang": {"tolerations": []}}}, "tolerations"),
]


@pytest.mark.parametrize(("values", "named"), REFUSED, ids=[json.dumps(values) for values, _ in REFUSED])
def test_a_wrong_value_is_refused_by_name(values, named):
    with pytest.raises(helm_python.HelmError, match=named):
        render(values)


def test_everything_that_the_tests_render_is_allowed():
    with helm_python.Chart.load(str(CHART)) as chart:
        for values in (EVERYTHING, WITHOUT_VOLUME):
            chart.validate_schema(values)


def test_schema_and_values_have_the_same_keys():
    assert _keys_of_schema(SCHEMA) == _keys_of_values(yaml.safe_load((CHART / "values.yaml").read_text()))


def test_the_profile_s_sections_are_those_of_its_model():
    assert (CHART / "values.schema.json").read_text() == profile_schema.exported(SCHEMA), "run `make schema`"


def test_no_object_of_the_schema_takes_unknown_keys():
    open_objects = [path for path, each in _objects(SCHEMA) if "additionalProperties" not in each]
    assert open_objects == []


def _keys_of_values(values: Any, path: str = "") -> set[str]:
    keys = set()
    for key, value in values.items():
        keys.add(f"{path}{key}")
        if isinstance(value, dict) and key not in FREE_FORM:
            keys |= _keys_of_values(value, f"{path}{key}.")
    return keys


def _keys_of_schema(node: dict[str, Any], path: str = "") -> set[str]:
    keys = set()
    for key, child in _resolved(node).get("properties", {}).items():
        keys.add(f"{path}{key}")
        if key not in FREE_FORM:
            keys |= _keys_of_schema(child, f"{path}{key}.")
    return keys


def _objects(node: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(node, dict):
        return []
    found = [(path, node)] if node.get("type") == "object" else []
    return found + [each for key, child in node.items() for each in _objects(child, f"{path}/{key}")]


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    return SCHEMA["$defs"][reference.rsplit("/", 1)[-1]] if reference else node
