import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from toposieve import schema_export
from toposieve.config import STAGES, StageConfig

SCHEMA_FILE = Path(__file__).resolve().parents[1] / "dags" / "config" / "schema.json"


class Inner(BaseModel):
    level: int = 1


class Outer(StageConfig):
    inner: Inner = Inner()
    limit: int | None = None
    mode: Literal["a", "b"] = "a"


def test_file_in_git_is_in_step() -> None:
    assert SCHEMA_FILE.read_text() == schema_export.export_text(), "run `make schema`"


def test_every_key_of_every_stage_has_its_default() -> None:
    exported = json.loads(schema_export.export_text())
    assert list(exported) == list(STAGES)
    for stage, model in STAGES.items():
        defaults = {key: field["default"] for key, field in exported[stage]["properties"].items()}
        assert model.model_validate(defaults) == model()
        assert list(defaults) == list(model.model_fields)


def test_every_key_has_a_description() -> None:
    for schema in schema_export.export().values():
        assert all(field["description"] for field in schema["properties"].values())


def test_references_are_inlined() -> None:
    text = schema_export.export_text()
    assert "$ref" not in text
    assert "$defs" not in text
    exported = schema_export._stage_schema(Outer)
    assert exported["properties"]["inner"]["properties"]["level"]["type"] == "integer"
    assert "$ref" not in json.dumps(exported)


def test_optional_value_is_one_field_of_two_types() -> None:
    limit = schema_export._stage_schema(Outer)["properties"]["limit"]
    assert limit["type"] == ["integer", "null"]
    assert "anyOf" not in limit
    assert limit["default"] is None
