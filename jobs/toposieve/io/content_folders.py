"""Files with fixed names, in a folder that is named by their content: new content never takes an old place."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from toposieve.io.manifests import OutputFile, describe_file
from toposieve.io.names import digest
from toposieve.io.store import Key


def upload(scratch: Path, names: Iterable[str], folder: Key) -> tuple[OutputFile, ...]:
    """Put files of a local folder into a folder below an output folder, named by all their content together.

    Args:
        scratch: Where the files are.
        names: Their names, in the order of the result.
        folder: The output folder.

    Returns:
        What a manifest says of them.
    """
    paths = [scratch / name for name in names]
    name = digest(*(part for path in paths for part in (path.name, _content_digest(path))))
    return tuple(_upload(path, folder, f"{name}/{path.name}") for path in paths)


def _content_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def _upload(source: Path, folder: Key, name: str) -> OutputFile:
    with (folder / name).create() as path:
        shutil.copyfile(source, path)
    return describe_file(source, name)
