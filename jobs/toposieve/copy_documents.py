"""Copy what says what there is, for Airflow's UI, with all data in a store.

    python -m toposieve.copy_documents s3://lhc/toposieve /tmp/documents

The copy has metrics of reports, newest manifests and the registry's records, in the same folders and with the same
times of modification. What is in it already is not fetched again; what is gone from the store is removed. Exits with 2
where the store refuses, and with 1 where it cannot be reached; the error is one sentence.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from toposieve.io.manifests import manifest_name, manifest_numbers, read_stub
from toposieve.io.store import Key, Stat, root_key
from toposieve.io.store.file import TEMPORARY_PREFIX
from toposieve.read_object import exit_code
from toposieve.registry import RECORD_NAME, REGISTRY_DIRECTORY

METRICS = "metrics.json"
DEPTHS = {"reports": 1, "events": 1, "selected": 1, "datasets": 1, "models": 2, REGISTRY_DIRECTORY: 2}
"""Folder of the base → how deep below it are the folders with documents."""
THREADS = 16


def copy_documents(base: Key, copy: Path) -> None:
    """Make a copy that has what the base has now.

    Args:
        base: Where all data lies.
        copy: A folder, empty or with an earlier copy.

    Raises:
        InvalidInputError: The store refuses.
        UnavailableError: It cannot be reached.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        listings = pool.map(lambda kind: (kind, (base / kind).list()), DEPTHS)
        found = [(kind, names) for kind, entries in listings for names in _documents(kind, entries)]
        kept = set(pool.map(lambda each: _copy_first(base / each[0], each[1], copy / each[0]), found))
    for path in [*copy.rglob("*.json")]:
        if path not in kept:
            path.unlink()
            with suppress(OSError):  # there is something else in it
                path.parent.rmdir()


def _documents(kind: str, entries: Mapping[str, Stat]) -> Iterator[dict[str, Stat]]:
    """What may say what is in each folder of a kind, the newest first."""
    folders: defaultdict[str, dict[str, Stat]] = defaultdict(dict)
    for path, stat in entries.items():
        folder, _, name = path.rpartition("/")
        if folder.count("/") == DEPTHS[kind] - 1:
            folders[folder][name] = stat
    for folder, names in folders.items():
        if kind == REGISTRY_DIRECTORY:
            yield from ({f"{folder}/{name}": stat} for name, stat in names.items() if RECORD_NAME.fullmatch(name))
            continue
        newest = [manifest_name(number) for number in reversed(manifest_numbers(names))]
        chosen = [METRICS] if kind == "reports" else newest
        yield {f"{folder}/{name}": names[name] for name in chosen if name in names}


def _copy_first(folder: Key, candidates: Mapping[str, Stat], copy: Path) -> Path | None:
    """Copy the first of some documents that is more than a stub, unless it is there; returns its place."""
    for name, stat in candidates.items():
        path = copy / name
        modified = int(1e9 * stat.modified)
        if path.is_file() and (path.stat().st_size, path.stat().st_mtime_ns) == (stat.size, modified):
            return path
        try:
            content = (folder / name).read_bytes()
        except FileNotFoundError:  # just removed
            continue
        if content and not read_stub(content):
            _write(path, content, modified)
            return path
    return None


def _write(path: Path, content: bytes, modified_ns: int) -> None:
    """Write a file whole at once: somebody reads the copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    temporary.write_bytes(content)
    os.utime(temporary, ns=(modified_ns, modified_ns))
    temporary.replace(path)


def main(arguments: list[str]) -> int:
    """Copy from the base to the folder that the arguments name; returns the exit code."""
    base, copy = arguments
    return exit_code(lambda: copy_documents(root_key("base", base), Path(copy)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
