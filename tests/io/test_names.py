from __future__ import annotations

import pytest

from toposieve.errors import InvalidInputError
from toposieve.io.names import digest, is_ours, path_key, sample_of, unit_name


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


def test_a_units_name_changes_with_all_that_decides_its_content() -> None:
    known = unit_name("qcd/d/a.root", 0, 250, "2e", 1)
    assert known.startswith("a-")
    others = [unit_name("qcd/e/a.root", 0, 250, "2e", 1), unit_name("qcd/d/a.root", 0, 251, "2e", 1),
              unit_name("qcd/d/a.root", 0, 250, "2f", 1), unit_name("qcd/d/a.root", 0, 250, "2e", 2)]  # fmt: skip
    assert len({known, *others}) == 5
    assert unit_name("qcd/d/a.root", 0, 250, "2e", 1) == known


def test_parts_of_an_identity_do_not_run_into_each_other() -> None:
    assert digest("a", "bc") != digest("ab", "c")


@pytest.mark.parametrize("stem", ["x" * 255, "é" * 200])
def test_a_long_name_is_cut_where_file_systems_would_refuse_it(stem: str) -> None:
    name = unit_name(f"qcd/d/{stem}.root")
    assert len(name.encode()) <= 255 - len(".tmp-") - 32
    assert is_ours(name)


@pytest.mark.parametrize(
    "path",
    [
        "qcd-000003-8c8b8aabd1f3.parquet",
        "simulated/qcd-000003-8c8b8aabd1f3.root",
        "8c8b8aabd1f3/train/shard-00000-of-00008.tfrecord",
        "_records/8c8b8aabd1f3/shard.json",
        "_heartbeats/ab.json",
        ".tmp-0123.parquet",
        "train/.tmp-0123",
        "d0cfc1a9-1b3e-4f6a-9c55-0123456789ab-8c8b8aabd1f3.parquet",
    ],
)
def test_names_that_only_we_give(path: str) -> None:
    assert is_ours(path)


@pytest.mark.parametrize(
    "path",
    [
        "mine.root",
        "part-1.root",
        "manifest-000001.json",
        "manifest.json",
        "cutflow.json",
        "_versions.json",
        "8C8B8AABD1F3.root",
        "d0cfc1a9-1b3e-4f6a-9c55-0123456789ab.root",
        "simulated/d0cfc1a9-1b3e-4f6a-9c55-0123456789ab.root",
    ],
)
def test_names_that_a_user_may_have_given(path: str) -> None:
    assert not is_ours(path)
