"""Check what a job has published, after the job says that it is done.

    python -m toposieve.check_outputs '{"outputs": ["work/selected/2026-01-01"], "config": {"jet_pt_min": 30.0}}'

Each folder is listed once, wherever it lies. Its newest manifest must show the given configuration, and all that it
lists must be there in the right size; so must the ``files`` given by name. Exits with 0 if all is well, and prints the
JSON files of the first folder that ``told`` names, as one object; otherwise says in one sentence each what is wrong and
exits with 2, or with 1 where a store cannot be reached. An Airflow task ends with this, so that it announces nothing
that is not there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from toposieve.cli import RETRY_EXIT_CODE, print_error
from toposieve.errors import INVALID_INPUT_EXIT_CODE, InvalidInputError, UnavailableError
from toposieve.io.manifests import Manifest, Numbered, manifest_name, read_newest
from toposieve.io.store import Key, Stat, root_key

MOST_PROBLEMS = 10
"""Problems of a folder that are said one by one."""


def problems(outputs: Sequence[str], config: Mapping[str, Any], files: Sequence[str] = ()) -> list[str]:
    """What is wrong with published output, in one sentence each.

    Args:
        outputs: Folders.
        config: Keys that each folder's manifest must show with these values; without any there need be no manifest.
        files: Files that each folder must have besides.
    """
    return [problem for output in outputs for problem in _of_folder(root_key("output", output), config, files)]


def _of_folder(folder: Key, config: Mapping[str, Any], files: Sequence[str]) -> list[str]:
    entries = folder.list()
    found = list(_of_manifest(folder, entries, config)) if config else []
    found += [
        f"{folder / name} is missing, though the job says that it is done"
        for name in files
        if _size(folder, entries, name) is None
    ]
    more = len(found) - MOST_PROBLEMS
    return found if more <= 0 else [*found[:MOST_PROBLEMS], f"{folder} has {more:,} more such problems"]


def _of_manifest(folder: Key, entries: Mapping[str, Stat], config: Mapping[str, Any]) -> Iterator[str]:
    try:
        newest = read_newest(folder, entries)
    except InvalidInputError as error:
        yield str(error)
        return
    if newest is None:
        yield f"{folder} has no manifest, though the job says that it is done"
        return
    yield from _of_config(folder, newest, config)
    yield from _of_listed(folder, entries, newest.manifest)


def _of_config(folder: Key, newest: Numbered, config: Mapping[str, Any]) -> Iterator[str]:
    path, shown = folder / manifest_name(newest.number), newest.manifest.config
    for key, value in config.items():
        if shown.get(key) != value:
            yield (
                f"{path} was made with {key} = {shown.get(key)}, but {value} was asked for: another run has replaced it"
            )


def _of_listed(folder: Key, entries: Mapping[str, Stat], manifest: Manifest) -> Iterator[str]:
    for file in manifest.outputs():
        size = _size(folder, entries, file.path)
        if size is None:
            yield f"{folder / file.path} is missing, though the job says that it is done"
        elif size != file.bytes:
            yield f"{folder / file.path} has {size} bytes where its manifest says {file.bytes}"


def _size(folder: Key, entries: Mapping[str, Stat], name: str) -> int | None:
    # A listing may be some seconds old, so what it lacks is asked for.
    found = entries.get(name) or (folder / name).stat()
    return found.size if found else None


def main(arguments: list[str]) -> int:
    """Check what the JSON object in the only argument describes; returns the exit code."""
    promised = json.loads(arguments[0])
    told = promised.pop("told", [])
    try:
        found = problems(**promised | {"files": list(dict.fromkeys([*promised.get("files", ()), *told]))})
        if told and not found:
            folder = root_key("output", promised["outputs"][0])
            print(json.dumps({name: json.loads((folder / name).read_text()) for name in told}))
    except InvalidInputError as error:
        found = [str(error)]
    except UnavailableError as error:
        print_error(str(error))
        return RETRY_EXIT_CODE
    for problem in found:
        print_error(problem)
    return INVALID_INPUT_EXIT_CODE if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
