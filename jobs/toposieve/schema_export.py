"""Print the JSON schema of every stage's configuration, for the Airflow trigger forms.

    python -m toposieve.schema_export > dags/config/schema.json        # what `make schema` does

References are inlined, because Airflow's Params resolve none, and every key carries its default. A key that decides
whether output is made, not what it holds, says ``"inManifest": false``; one that shapes some models only names them,
as ``"models"``.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import to_jsonable_python

from toposieve.config import STAGES, StageConfig
from toposieve.models import models_with


def export() -> dict[str, Any]:
    """Stage → JSON schema of its configuration, in the order of the pipeline."""
    return {stage: _stage_schema(model) for stage, model in STAGES.items()}


def export_text() -> str:
    """The content of ``dags/config/schema.json``."""
    return json.dumps(export(), indent=2, ensure_ascii=False) + "\n"


def _stage_schema(model: type[StageConfig]) -> dict[str, Any]:
    exported = model.model_json_schema()
    schema: dict[str, Any] = _inline(exported, exported.pop("$defs", {}))
    defaults = to_jsonable_python(dict(model()))
    for key, field in schema["properties"].items():
        field["default"] = defaults[key]
        if model.model_fields[key].exclude:
            field["inManifest"] = False
        if models_with(key):
            field["models"] = models_with(key)
    return schema


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    """A copy without ``$ref`` and, where one type or null is allowed, without ``anyOf`` (forms show neither)."""
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _inline({**definitions[node["$ref"].rpartition("/")[2]], **rest}, definitions)
    plain = {key: _inline(value, definitions) for key, value in node.items()}
    return _merge_optional(plain)


def _merge_optional(node: dict[str, Any]) -> dict[str, Any]:
    options = node.get("anyOf", [])
    present = [option for option in options if option != {"type": "null"}]
    if len(options) != 2 or len(present) != 1:
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    return {**rest, **present[0], "type": [present[0]["type"], "null"]}


if __name__ == "__main__":
    print(export_text(), end="")
