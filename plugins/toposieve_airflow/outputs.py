"""Checks a job's output after the job says that it is done. Standard library only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toposieve_airflow.steps import Step

MANIFEST_NAME = "manifest.json"


_RUN = re.compile(r"results in (/.+)")


class OutputError(Exception):
    """A job ended well but its output is not what it should be; the message names the file."""


def check_outputs(step: Step) -> None:
    """Check every manifest and file that a step promises.

    Raises:
        OutputError: A manifest is missing, broken or of another configuration, or a file is missing or cut short.
    """
    for folder in map(Path, step["outputs"]):
        if step["config"]:
            check_manifest(folder, step["config"])
        for name in step["files"]:
            _check_size(folder / name, None)


def runs_in(line: str) -> list[str]:
    """Directories that a job's log line names as those of its results.

    >>> runs_in("done after 6 epochs; results in /data/models/hlf/1a2b")
    ['/data/models/hlf/1a2b']
    """
    return _RUN.findall(line)


def with_run(step: Step, runs: Sequence[str]) -> Step:
    """The step with the directory that its job's log has named last, if only the log names it.

    Raises:
        OutputError: The log names none.
    """
    if not step["run_in_log"]:
        return step
    if not runs:
        raise OutputError(f"the job says that it is done but not where in {', '.join(step['outputs'])} its results are")
    return {**step, "outputs": [runs[-1]]}


def check_manifest(folder: Path, config: Mapping[str, Any]) -> None:
    """Check a manifest against the configuration asked for, and the files that it lists against their sizes.

    Raises:
        OutputError: Something does not hold.
    """
    path = folder / MANIFEST_NAME
    manifest = _read(path)
    for key, value in config.items():
        if manifest["config"].get(key) != value:
            raise OutputError(
                f"{path} was made with {key} = {manifest['config'].get(key)}, but {value} was asked for: "
                "another run has replaced it"
            )
    for unit in manifest["units"]:
        for file in unit["outputs"]:
            _check_size(folder / file["path"], file["bytes"])


def _read(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}, though the job says that it is done") from None
    except ValueError as error:
        raise OutputError(f"{path} is not JSON: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("config"), dict) or "units" not in manifest:
        raise OutputError(f"{path} is not a manifest: it has no config or no units")
    return manifest


def _check_size(path: Path, size: int | None) -> None:
    if not path.is_file():
        raise OutputError(f"{path} is missing, though the job says that it is done")
    if size is not None and path.stat().st_size != size:
        raise OutputError(f"{path} has {path.stat().st_size} bytes where its manifest says {size}")
