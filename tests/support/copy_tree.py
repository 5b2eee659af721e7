"""Copies a folder with all that is in it from one kind of store to another.

.venv-jobs/bin/python -m support.copy_tree FROM TO
"""

import sys

from toposieve.io.store import root_key


def copy_tree(source: str, target: str) -> None:
    """Copy each file under its own name."""
    start, end = root_key("FROM", source), root_key("TO", target)
    for name in start.list():
        (end / name).write_bytes((start / name).read_bytes())


if __name__ == "__main__":
    copy_tree(*sys.argv[1:])
