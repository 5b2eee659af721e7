"""Runs of anybody's script: their trigger form, and the task that checks it against what the profile allows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Param
from airflow.sdk.exceptions import AirflowFailException

from toposieve_airflow.profile import Spawn
from toposieve_airflow.runs.params import RUN_SECTION
from toposieve_airflow.runs.plan import PlanOperator
from toposieve_airflow.runs.script import ScriptError, read_script

if TYPE_CHECKING:
    from airflow.sdk import Context

PLANNED = ("script", "arguments", "environment_file", "requirements", "image", "workers", "pod_template_file")
"""Arguments of TFSpawnerOperator that a run's form decides."""


class ScriptPlanOperator(BaseOperator):
    """Check a run's form before anything is started; each of :data:`PLANNED` is an XCom of that name.

    Args:
        allowed: What the profile allows; None: nothing.
        kwargs: As for BaseOperator.
    """

    ui_color = PlanOperator.ui_color

    def __init__(self, *, allowed: Spawn | None, **kwargs: Any) -> None:
        """Keep what is allowed."""
        super().__init__(**kwargs)
        self.allowed = allowed

    def execute(self, context: Context) -> None:
        """Check the form.

        Raises:
            AirflowFailException: Something in it is wrong or not allowed; nothing has been done.
        """
        if self.allowed is None:
            raise AirflowFailException(
                "this deployment runs no scripts: kubernetes.spawn of its profile would say which images they may have"
            )
        try:
            planned = plan_script(context["params"], self.allowed)
        except ScriptError as error:
            raise AirflowFailException(str(error)) from None
        for key, value in planned.items():
            context["ti"].xcom_push(key=key, value=value)


def plan_script(params: Mapping[str, Any], allowed: Spawn) -> dict[str, Any]:
    """What the gang of a script is made with: a value for each of :data:`PLANNED`.

    Args:
        params: Of the run.
        allowed: What the profile allows.

    Raises:
        ScriptError: A param is wrong or not allowed, or a file is not as it should be.
    """
    image, workers, accelerator = params["image"], params["workers"], params["accelerator"]
    if image not in allowed.images:
        raise ScriptError(f"image {image} is none that kubernetes.spawn.images allows: {', '.join(allowed.images)}")
    if workers < 1:
        raise ScriptError(f"workers is {workers}: it must be 1 or more")
    if (pod := getattr(allowed.pods, accelerator, None)) is None:
        raise ScriptError(f"there is no pod for accelerator {accelerator}: kubernetes.spawn.pods would say what it has")
    files = {
        key: _in_folder(allowed.scripts, key, params[key]) for key in ("script", "environment_file", "requirements")
    }
    if not files["script"]:
        raise ScriptError(f"script is empty: name a file in {allowed.scripts}")
    read_script(files["script"], files["environment_file"], files["requirements"])
    return {
        **files,
        "arguments": params["arguments"],
        "image": image,
        "workers": workers,
        "pod_template_file": str(pod),
    }


def _in_folder(folder: Path, key: str, name: str | None) -> str:
    """Path of a file that is named relative to a folder, and has to be in it, wherever links lead; empty without name.

    It goes from task to task, where None is as good as nothing.
    """
    if not name:
        return ""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ScriptError(f"{key} {name} is not in {folder}, where the scripts of this deployment are")
    return str(path)


def script_params(allowed: Spawn | None) -> dict[str, Param]:
    """The form of a run of a script.

    Args:
        allowed: What the profile allows; None: nothing.
    """
    images = [] if allowed is None else list(allowed.images)
    text, texts, file = {"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": ["null", "string"]}
    image = {**text, "enum": images} if images else text
    accelerator = {**text, "enum": ["cpu", "gpu"]}
    workers = {"type": "integer", "minimum": 1, "maximum": 1024}
    fields: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "script": ("", "Python file, relative to the folder of scripts.", text),
        "arguments": ([], "Arguments of the script, one a line.", texts),
        "image": ((images or [""])[0], "What the workers run in.", image),
        "workers": (2, "Number of workers.", workers),
        "accelerator": ("cpu", "What the workers compute on.", accelerator),
        "environment_file": (None, "File of lines NAME=VALUE in that folder: variables, which are kept secret.", file),
        "requirements": (None, "Requirements file in that folder: packages that the image lacks.", file),
    }
    return {
        name: Param(default, description=description, section=RUN_SECTION, **schema)
        for name, (default, description, schema) in fields.items()
    }
