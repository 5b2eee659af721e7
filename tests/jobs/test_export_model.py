"""What cannot have a portable form; what can is tested from raw events on, in evaluation/test_published_model.py."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import export_model
from support.registry_data import write_base
from toposieve import registry
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.serving.exports import NotPortableError, read_export


def export(base: Key, *options: str) -> None:
    export_model.main(export_model.arg_parser().parse_args(["--base", str(base), "--version", "1", *options]))


def test_trees_are_refused_or_left_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = write_base(tmp_path, xgboost={})
    registry.register(base, "topology", "r")
    with pytest.raises(NotPortableError, match="is of xgboost, which is no network"):
        export(base)
    with caplog.at_level(logging.WARNING):
        export(base, "--where-possible")
    assert "is of xgboost, which is no network" in caplog.text
    with pytest.raises(InvalidInputError, match="has no portable form"):
        read_export(registry.registry_folder(base, "topology"), 1)
