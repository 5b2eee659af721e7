"""What cannot have a portable form; what can is tested where models are published, and where trees are trained."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import export_model
from support.registry_data import write_base
from toposieve import registry
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.serving.exports import NotPortableError, read_export


def export(base: Key, *options: str) -> None:
    export_model.main(export_model.arg_parser().parse_args(["--base", str(base), "--version", "1", *options]))


def test_what_has_no_portable_form_is_refused_or_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> bytes:
        raise NotPortableError("particle_transformer has a layer take (Take), which has no portable form")

    base = write_base(tmp_path, particle_transformer={})
    registry.register(base, "topology", "r")
    monkeypatch.setattr(export_model.Scaling, "from_json", lambda _: None)  # this one is empty
    monkeypatch.setattr(export_model, "_network", refuse)
    with pytest.raises(NotPortableError, match="has a layer take"):
        export(base)
    with caplog.at_level(logging.WARNING):
        export(base, "--where-possible")
    assert "has a layer take" in caplog.text
    with pytest.raises(InvalidInputError, match="has no portable form"):
        read_export(registry.registry_folder(base, "topology"), 1)
