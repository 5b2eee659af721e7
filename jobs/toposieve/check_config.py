"""Check the configuration of several stages, and where data lies, before any of them runs.

    python -m toposieve.check_config --base work '{"selection": {"jet_pt_min": 40}, "training": {"epochs": 3}}'

Prints nothing and exits with 0 if all is well; otherwise names every wrong key and exits with 2. An Airflow run starts
with this, so that a slip in the last stage's configuration does not show after hours of the first. Of the places only
their kind is looked at: nothing is asked of a store.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from toposieve.cli import print_error
from toposieve.config import STAGES, load_config
from toposieve.errors import INVALID_INPUT_EXIT_CODE, InvalidInputError
from toposieve.io.store import root_key

PLACES = ("base", "raw")


def arg_parser() -> argparse.ArgumentParser:
    """Command line of this check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for place in PLACES:
        parser.add_argument(f"--{place}", help=f"what the jobs get as --{place}")
    parser.add_argument(
        "configurations", type=json.loads, help="JSON object: stage → its configuration, or a list of them"
    )
    return parser


def check(configurations: Mapping[str, Any], places: Mapping[str, str | None] | None = None) -> None:
    """Check each stage's configurations, and each place.

    Args:
        configurations: Stage → its configuration, or several.
        places: Option without its dashes → path or URL; None where it is not given.

    Raises:
        InvalidInputError: A stage, key, value or place is wrong; the message has one line for each.
    """
    problems = []
    checks: list[Callable[[], object]] = [
        partial(_check_stage, stage, values)
        for stage, given in configurations.items()
        for values in (given if isinstance(given, list) else [given])
    ]
    checks += [partial(root_key, f"--{option}", place) for option, place in (places or {}).items() if place]
    for each in checks:
        try:
            each()
        except InvalidInputError as error:
            problems.append(str(error))
    if problems:
        raise InvalidInputError("\n".join(problems))


def _check_stage(stage: str, values: Any) -> None:
    if stage not in STAGES:
        raise InvalidInputError(f"unknown stage {stage}; there are {', '.join(STAGES)}")
    load_config(STAGES[stage], json.dumps(values))


def main(arguments: list[str]) -> int:
    """Check what the command line gives; returns the exit code."""
    args = arg_parser().parse_args(arguments)
    try:
        check(args.configurations, {place: getattr(args, place) for place in PLACES})
    except InvalidInputError as error:
        print_error(str(error))
        return INVALID_INPUT_EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
