"""How stages end."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest

from toposieve.io.manifests import Manifest, manifest_name, read_manifest
from toposieve.io.publication import TIMING_NAME, Publication
from toposieve.io.stages import finish
from toposieve.io.store import Key

MANIFEST = Manifest(stage="test", config_hash="1f", config={}, units=(), code_version="v1", notes=("a: odd", "b: odd"))


def finished(folder: Path, manifest: Manifest, new_events: int = 0) -> Manifest:
    with Publication(Key(str(folder))) as publication:
        return finish(publication, manifest, new_events, time.monotonic())


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_what_is_new_is_published_and_timed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert finished(tmp_path, MANIFEST, 3) == MANIFEST == read_manifest(Key(str(tmp_path)))
    assert "done: 3 new events of 0 in" in caplog.text
    assert json.loads((tmp_path / TIMING_NAME).read_text())["events"] == 3


def test_notes_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finished(tmp_path, MANIFEST)
    assert caplog.text.count("odd (2 of the files)") == 1


@pytest.mark.parametrize(("new_events", "said"), [(0, "nothing to do"), (5, "made again, the same as before")])
def test_what_changes_only_the_version_of_the_code_is_not_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, new_events: int, said: str
) -> None:
    finished(tmp_path, MANIFEST)
    (tmp_path / TIMING_NAME).unlink()
    later = MANIFEST.model_copy(update={"code_version": "v2"})
    assert finished(tmp_path, later, new_events) == MANIFEST
    assert said in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [manifest_name(1)]
