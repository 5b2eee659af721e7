"""Check the configuration of several stages before any of them runs.

    python -m toposieve.check_config '{"selection": {"jet_pt_min": 40}, "training": {"epochs": 3}}'

Prints nothing and exits with 0 if all is well; otherwise names every wrong key and exits with 2. An Airflow run starts
with this, so that a slip in the last stage's configuration does not show after hours of the first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from toposieve.cli import print_error
from toposieve.config import STAGES, load_config
from toposieve.errors import INVALID_INPUT_EXIT_CODE, InvalidInputError


def check(configurations: Mapping[str, Any]) -> None:
    """Check each stage's configuration.

    Raises:
        InvalidInputError: A stage, key or value is wrong; the message has one line for each stage at fault.
    """
    problems = []
    for stage, values in configurations.items():
        try:
            _check_stage(stage, values)
        except InvalidInputError as error:
            problems.append(str(error))
    if problems:
        raise InvalidInputError("\n".join(problems))


def _check_stage(stage: str, values: Any) -> None:
    if stage not in STAGES:
        raise InvalidInputError(f"unknown stage {stage}; there are {', '.join(STAGES)}")
    load_config(STAGES[stage], json.dumps(values))


def main(arguments: list[str]) -> int:
    """Check the JSON object in the only argument; returns the exit code."""
    try:
        check(json.loads(arguments[0]))
    except InvalidInputError as error:
        print_error(str(error))
        return INVALID_INPUT_EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
