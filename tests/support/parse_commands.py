"""Parse command lines with the jobs' own parsers; runs in the jobs' environment, for tests that run in Airflow's.

Reads ``[[script, stage, arguments], ...]`` as JSON and prints, for each, the parsed arguments, the configuration and
what a manifest shows of it; of a job without a stage there is none.
"""

import importlib.util
import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from toposieve.cli import stage_config
from toposieve.config import STAGES

JOBS = Path(__file__).resolve().parents[2] / "jobs"


def parse(script: str, stage: str | None, arguments: list[str]) -> dict[str, Any]:
    args = arg_parser(script).parse_args(arguments)
    if stage is None:
        return {**vars(args), "given": {}, "config": {}}
    given = json.loads(args.config)
    config = stage_config(args, STAGES[stage])
    return {
        **vars(args),
        "given": given,
        "config": to_jsonable_python(dict(config)),
        "shown": config.model_dump(mode="json"),
    }


def arg_parser(script: str) -> ArgumentParser:
    spec = importlib.util.spec_from_file_location(Path(script).stem, JOBS / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.arg_parser()


if __name__ == "__main__":
    print(json.dumps([parse(*command) for command in json.load(sys.stdin)]))
