"""What a folder of output holds, as its newest manifest says. Needs neither of the two environments."""

import json
from pathlib import Path
from typing import Any


def newest_manifest(folder: Path) -> dict[str, Any]:
    """Content of the manifest with the highest number."""
    manifest: dict[str, Any] = json.loads(max(folder.glob("manifest-*.json")).read_text())
    return manifest


def published_files(folder: Path) -> dict[str, Path]:
    """Name of each published file → where it is; for folders in which no name occurs twice."""
    units = newest_manifest(folder)["units"]
    paths = [folder / output["path"] for unit in units for output in unit["outputs"]]
    return {path.name: path for path in paths}
