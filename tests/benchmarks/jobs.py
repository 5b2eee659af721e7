"""Run a job in this process, as its command line would."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from toposieve.environment import JOBS_FOLDER


def run_job(name: str, base: Path | str, *arguments: str) -> None:
    """Run ``jobs/<name>.py`` with these arguments."""
    spec = importlib.util.spec_from_file_location(name, JOBS_FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(module.arg_parser().parse_args(["--base", str(base), *arguments]))
