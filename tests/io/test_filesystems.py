from __future__ import annotations

from pathlib import Path

import pytest

from toposieve.errors import InvalidInputError
from toposieve.io.filesystems import base_path, path_key, sample_of


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert base_path("work") == tmp_path / "work"
    assert base_path(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("base", ["s3://bucket/x", "hdfs://host/x", "file:///x"])
def test_uris_are_refused_with_a_remedy(base: str) -> None:
    with pytest.raises(InvalidInputError, match=r"not supported yet: mount it, or give a local path"):
        base_path(base)


@pytest.mark.parametrize("key", ["2026-01-01", "run_7", "v1.2", "day=1"])
def test_good_partitions(key: str) -> None:
    assert path_key("--partition", key) == key


@pytest.mark.parametrize("key", ["", "..", "../x", "a/b", "_pileup", ".hidden", "a b", "a\n", "/tmp"])
def test_bad_partitions_are_refused(key: str) -> None:
    with pytest.raises(InvalidInputError, match=r"--partition .*letters, digits"):
        path_key("--partition", key)


def test_sample_is_the_first_folder() -> None:
    assert sample_of("ttbar/2026-01-01/a.root") == "ttbar"
    with pytest.raises(InvalidInputError, match=r"higgs/d/a.root: unknown sample 'higgs'; known are qcd, ttbar, wjets"):
        sample_of("higgs/d/a.root")
