from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.copying_store import copying_store
from support.selected_files import random_unit, write_selected
from toposieve.assignment import Cuts
from toposieve.io import selected
from toposieve.io.datasets import SelectedUnit
from toposieve.io.manifests import OutputFile, Unit, read_manifest
from toposieve.io.store import Key
from toposieve.io.units import write_record
from toposieve.spark import preparation_passes
from toposieve.spark.preparation_passes import ShardOutput, ShardPlan, find_shards, published_shards


def test_every_worker_starts_without_the_libraries_for_root_files() -> None:
    """They take .2 s of CPU to import, in each Python worker and in the driver."""
    program = "import sys, toposieve.spark.preparation; print({'uproot', 'awkward'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_unlisted_shards_are_found_by_their_records_and_only_whole(tmp_path: Path) -> None:
    plan = ShardPlan([[2], [3], [4]])
    output = ShardOutput(Key(str(tmp_path)), "0123456789ab", ("qcd", "ttbar"), None, parquet=False)  # type: ignore[arg-type]
    assert find_shards(plan, output) == {}
    made = {}
    for shard, size in ((0, 3), (1, 4)):
        name = f"{output.content}/{plan.name(shard)}"
        (output.dataset / name).write_bytes(b"x" * size)
        file = OutputFile(path=name, bytes=3, checksum="0000000a")
        made[shard] = Unit(
            source=str(shard), source_checksum="", entry_start=0, entry_stop=1, counts={}, outputs=(file,)
        )
        write_record(output.dataset, name, made[shard])
    assert find_shards(plan, output) == {0: made[0]}
    assert published_shards(plan, output, made.values()) == made
    assert published_shards(plan, replace(output, content="ba9876543210"), made.values()) == {}


@pytest.mark.parametrize(("share", "whole"), [(0.1, False), (0.9, True)])
def test_of_a_remote_file_only_what_is_kept_is_fetched_if_that_is_little(
    share: float, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selected, "GROUP_PARTICLES", 2_000)
    monkeypatch.setattr(preparation_passes, "GROUP_BYTES", 100_000)
    folder = write_selected(tmp_path, "a", [random_unit("qcd/a/a.root", 400, seed=1, particles=(30, 60))])
    root, store = copying_store(tmp_path, monkeypatch)
    unit = SelectedUnit(root / "selected" / "a", read_manifest(folder).units[0], label=0)
    none = np.array([], np.uint64)
    cuts = Cuts(1, {0: np.array([int(share * 2**64)], np.uint64)}, {0: none}, {0: none}, [none])
    read = [0]
    real_read = store.read_ranges

    def count(key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        read[0] += sum(length for _, length in ranges)
        return real_read(key, ranges)

    monkeypatch.setattr(store, "read_ranges", count)
    events = sum(len(records) for _, _, records, _ in preparation_passes._pieces(unit, cuts, ()))
    assert events == pytest.approx(share * 400, abs=40)
    assert 0 < read[0] < unit.unit.outputs[0].bytes / 2 or whole
    assert (read[0] == 0) is whole
