"""The trigger form: Airflow Params made from ``dags/config/schema.json``, and back into a stage's configuration.

The schema comes from the configuration classes of the jobs (``make schema``), so form, defaults and checks have one
source. A key of a stage appears in the form as ``<stage>_<key>``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import Param

RUN_SECTION = "Run"

NOT_IN_FORM = {
    "simulation": ("samples",),
    "selection": ("jet_scale", "met_scale", "track_loss", "btag_flips"),
    "preparation": ("classes",),
    "search": ("model",),
    "training": ("model",),
    "trees": ("models",),
}
"""Keys that the form asks for once, as ``samples``, ``tune``, ``models`` and ``trees``; and those of systematic
variations, whose output is beside that of a DAG."""


class ConfigurationSchema:
    """JSON schemas of all stages.

    Args:
        stages: Stage → JSON schema of its configuration.
    """

    def __init__(self, stages: Mapping[str, Any]) -> None:
        """Keep the schemas."""
        self._stages = stages

    @classmethod
    def load(cls, config_folder: Path) -> ConfigurationSchema:
        """Read ``schema.json`` in ``dags/config``."""
        return cls(json.loads((config_folder / "schema.json").read_text(encoding="utf-8")))

    def fields(self, stage: str) -> dict[str, dict[str, Any]]:
        """Keys of a stage that the form shows, each with its JSON schema."""
        hidden = NOT_IN_FORM.get(stage, ())
        return {key: field for key, field in self._stages[stage]["properties"].items() if key not in hidden}

    def stage_params(self, stages: Iterable[str]) -> dict[str, Param]:
        """Params for every shown key of these stages, in a section of the form per stage."""
        return {
            f"{stage}_{key}": _param(field, section=f"{stage.capitalize()} configuration")
            for stage in stages
            for key, field in self.fields(stage).items()
        }

    def stage_config(self, params: Mapping[str, Any], stage: str) -> dict[str, Any]:
        """A stage's configuration from a run's params, numbers as the schema types them: 20 and 20.0 are one."""
        return {key: _typed(params[f"{stage}_{key}"], field) for key, field in self.fields(stage).items()}

    def shown(self, config: Mapping[str, Any], stage: str) -> dict[str, Any]:
        """The part of a stage's configuration that decides what its output holds, and that manifests show."""
        fields = self.fields(stage)
        return {key: value for key, value in config.items() if fields[key].get("inManifest", True)}

    def of_model(self, config: Mapping[str, Any], model: str, stage: str = "training") -> dict[str, Any]:
        """The part of a stage's configuration that concerns a model: the form has the keys of all."""
        fields = self.fields(stage)
        return {key: value for key, value in config.items() if model in fields[key].get("models", [model])}

    def samples(self) -> Param:
        """Param with the samples to process."""
        return self._choice(
            "simulation",
            "samples",
            "Samples to process: the classes that the models tell apart. A day may lack some.",
        )

    def models(self) -> Param:
        """Param with the models to train."""
        field = self._stages["training"]["properties"]["model"]
        names = field["enum"]
        return _param(
            {
                "default": field["formDefault"],
                "description": "Models to train, one task each.",
                "type": "array",
                "items": {"type": "string", "enum": names},
            }
            | _SOME_DISTINCT,
            section=RUN_SECTION,
        )

    def tuned_models(self) -> Param:
        """Param with the models to search for; none unless asked for."""
        return self._optional(
            self._stages["search"]["properties"]["model"]["enum"],
            "Models whose best configuration is searched for: that is trained too, as MODEL_tuned. None: no search.",
        )

    def trees(self) -> Param:
        """Param with the tree models to train; none unless asked for."""
        return self._optional(
            self._stages["trees"]["properties"]["models"]["items"]["enum"],
            "Tree models to train on Spark, for comparison, beside those in `tune`. None: no more.",
        )

    def is_tree_model(self, model: str) -> bool:
        """Whether it is trained by Spark."""
        return model in self._stages["trees"]["properties"]["models"]["items"]["enum"]

    def _optional(self, names: list[str], description: str) -> Param:
        items = {"type": "string", "enum": names}
        field = {"default": [], "description": description, "type": "array", "items": items, "uniqueItems": True}
        return _param(field, section=RUN_SECTION)

    def _choice(self, stage: str, key: str, description: str) -> Param:
        field = self._stages[stage]["properties"][key]
        return _param({**field, "description": description} | _SOME_DISTINCT, section=RUN_SECTION)


_SOME_DISTINCT: dict[str, Any] = {"minItems": 1, "uniqueItems": True}


def day_params() -> dict[str, Param]:
    """Params with a range of production days."""
    return {
        "partition_start": _day("First production day. Empty: the run's partition key."),
        "partition_end": _day("Last production day, included. Empty: the first day."),
    }


def bad_file_param() -> Param:
    """Param that says what to do about a broken input file."""
    return _param(
        {
            "default": "fail",
            "enum": ["fail", "quarantine"],
            "type": "string",
            "description": "A broken input file stops the run, or is left out and listed in manifest and report.",
        },
        section=RUN_SECTION,
    )


def drop_missing_param() -> Param:
    """Param that allows the events of input files that are gone to leave the output."""
    return switch("Take the events of input files that are gone out of the output, in place of stopping.")


def switch(description: str) -> Param:
    """Param that is off unless switched on."""
    return _param({"default": False, "type": "boolean", "description": description}, section=RUN_SECTION)


def replace_param() -> Param:
    """Param that allows output of another configuration to be made anew."""
    return switch("Make output of another configuration anew, in place of refusing to touch it.")


def publication_params() -> dict[str, Param]:
    """Params that say which model to publish, or to go back."""
    fields: dict[str, dict[str, Any]] = {
        "action": {"default": "publish", "type": "string", "enum": ["publish", "rollback"]}
        | {"description": "Publish a report's model, or go back to the one that was published before."},
        "report": _text("Report whose model to publish. Empty: that of the run's partition key, which has started it."),
        "label": _text("What the report calls the model. Empty: that with the largest areas under the ROC curves."),
        "version": {"default": None, "type": ["null", "integer"], "minimum": 1}
        | {"description": "Version to go back to. Empty: the one before."},
        "why": _text("The reason, for the record of who has gone back, and when."),
    }
    return {name: _param(field, section=RUN_SECTION) for name, field in fields.items()}


def decision_params() -> dict[str, Param]:
    """Params that say on which days a published model decides again, and whether it becomes firmware."""
    return {
        "score_start": _day("First day on whose selected events the published model decides. Empty: on none."),
        "score_end": _day("Last such day, included. Empty: the first."),
        "firmware": switch("Make firmware of the published model, which has to be an hlf."),
    }


def _text(description: str) -> dict[str, Any]:
    return {"default": None, "type": ["null", "string"], "description": description}


def workers_param() -> Param:
    """Param with the size of a training gang."""
    description = "Training workers of one model. Any number gives the same result."
    field = {"default": 2, "type": "integer", "minimum": 1, "maximum": 1024, "description": description}
    return _param(field, section=RUN_SECTION)


def seeds_param() -> Param:
    """Param with the number of trainings of each model."""
    description = (
        "Trainings of each model, or tree model, with seeds that follow: their spread is the error of training."
    )
    field = {"default": 1, "type": "integer", "minimum": 1, "maximum": 100, "description": description}
    return _param(field, section=RUN_SECTION)


def _day(description: str) -> Param:
    field = {"default": None, "type": ["null", "string"], "format": "date", "description": description}
    return _param(field, section=RUN_SECTION)


def _param(field: Mapping[str, Any], section: str) -> Param:
    schema = {key: value for key, value in field.items() if key not in ("default", "description")}
    choices = schema.get("items", {}).get("enum") if schema.get("type") == "array" else None
    if choices:  # the form shows a list of choices for an array with examples
        schema["examples"] = choices
    return Param(field["default"], description=field["description"], section=section, **schema)


def _typed(value: Any, field: Mapping[str, Any]) -> Any:
    if field.get("type") == "number":
        return float(value)
    if field.get("type") == "array":
        return [_typed(item, field["items"]) for item in value]
    return value
