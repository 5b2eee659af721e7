from __future__ import annotations

import os
from pathlib import Path

from toposieve.io.history import history
from toposieve.io.manifests import Manifest, OutputFile, Stub, Unit, manifest_name
from toposieve.io.store import Key, root_key


def put(folder: Key, number: int, day: int, names: str, **config: int) -> None:
    units = tuple(
        Unit(
            source=name,
            source_checksum="00",
            entry_start=0,
            entry_stop=3,
            counts={"events": 1500},
            outputs=(OutputFile(path=name, bytes=1, checksum="00"),),
        )
        for name in names
    )
    manifest = Manifest(stage="test", config_hash="1f", config=config, code=2, units=units, code_version="v1")
    (folder / manifest_name(number)).write_bytes(manifest.to_bytes())
    os.utime(Path(str(folder / manifest_name(number))), (day * 86400, day * 86400))


def test_a_line_for_each_manifest(tmp_path: Path) -> None:
    folder = root_key("--base", str(tmp_path))
    stub = Stub(swept="1969-12-31T00:00:00+00:00", was="test: 9 units")
    (folder / "manifest.json").write_text(stub.model_dump_json())
    put(folder, 1, 1, "ab", seed=1)
    (folder / manifest_name(2)).write_bytes(b"")
    put(folder, 3, 2, "bcd", seed=2)
    put(folder, 4, 3, "bcd", seed=2)
    assert history(folder) == [
        "     0  1969-12-31T00:00:00+00:00  test: 9 units (swept)",
        "     1  1970-01-02T00:00:00+00:00  test: 2 units, 3,000 events, configuration 1f, code 2",
        "     3  1970-01-03T00:00:00+00:00  test: 3 units, 4,500 events, configuration 1f, code 2"
        " (2 files more, 1 files less, seed 1 → 2)",
        "     4  1970-01-04T00:00:00+00:00  test: 3 units, 4,500 events, configuration 1f, code 2 (the same files)",
    ]


def test_no_output_has_no_history(tmp_path: Path) -> None:
    assert history(root_key("--base", str(tmp_path / "none"))) == []
