from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from toposieve.io.manifests import OutputFile, Unit
from toposieve.io.store import Key
from toposieve.io.units import write_record
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
