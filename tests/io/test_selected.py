"""Reading selected files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.copying_store import copying_store
from support.selected_files import SelectedUnit, random_unit, selected_table, write_selected
from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io import manifests
from toposieve.io.selected import BATCH_EVENTS, SelectedBatch, check_file, read_column, read_selected
from toposieve.io.store import Key
from toposieve.io.store.file import FileStore

FILE = "qcd/d/qcd-000000.root"
EVENTS = 3 * BATCH_EVENTS + 400


@pytest.fixture(scope="module")
def unit() -> SelectedUnit:
    return random_unit(FILE, EVENTS, seed=1)


def written(folder: Path, unit: SelectedUnit) -> tuple[Key, manifests.Unit]:
    """The file, and its entry in the manifest."""
    directory = write_selected(folder, "d", [unit])
    record = manifests.read_manifest(directory).units[0]
    return directory / record.outputs[0].path, record


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory, unit: SelectedUnit) -> Key:
    return written(tmp_path_factory.mktemp("selected"), unit)[0]


def check_events(batches: list[SelectedBatch], unit: SelectedUnit, rows: np.ndarray) -> None:
    np.testing.assert_array_equal(np.concatenate([batch.rows for batch in batches]), rows)
    np.testing.assert_array_equal(np.concatenate([batch.entries for batch in batches]), unit.entries[rows])
    np.testing.assert_array_equal(np.concatenate([batch.weights for batch in batches]), unit.weights[rows])
    np.testing.assert_array_equal(np.concatenate([batch.high_level for batch in batches]), unit.high_level[rows])
    for batch in batches:
        for i, row in enumerate(batch.rows):
            ours, theirs = slice(*batch.offsets[i : i + 2]), slice(*unit.offsets[row : row + 2])
            for name, values in batch.particles.items():
                np.testing.assert_array_equal(values[ours], unit.particles[name][theirs])


def test_all_events(key: Key, unit: SelectedUnit) -> None:
    rows = np.arange(EVENTS)
    batches = list(read_selected(key, rows))
    check_events(batches, unit, rows)
    assert max(len(batch.rows) for batch in batches) <= BATCH_EVENTS


@pytest.mark.parametrize("step", [2, 7, 333])
def test_some_events(key: Key, unit: SelectedUnit, step: int) -> None:
    rows = np.arange(1, EVENTS, step)
    check_events(list(read_selected(key, rows)), unit, rows)


def test_one_event_of_the_last_row_group(key: Key, unit: SelectedUnit) -> None:
    check_events(list(read_selected(key, np.array([EVENTS - 1]))), unit, np.array([EVENTS - 1]))


def test_no_events(key: Key) -> None:
    assert list(read_selected(key, np.array([], int))) == []


def test_packed_particles_hold_the_same_values(key: Key) -> None:
    batch = next(read_selected(key, np.arange(5)))
    records = batch.particle_records()
    for name, values in batch.particles.items():
        np.testing.assert_array_equal(records[name], values)


def test_a_flat_column(key: Key, unit: SelectedUnit) -> None:
    np.testing.assert_array_equal(read_column(key, schema.ENTRY_COLUMN), unit.entries)


def test_an_intact_file_passes(tmp_path: Path, unit: SelectedUnit) -> None:
    check_file(*written(tmp_path, unit))


def test_of_a_remote_file_little_is_read_for_its_check_and_one_column(
    tmp_path: Path, unit: SelectedUnit, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, record = written(tmp_path, unit)
    root, opened = copying_store(tmp_path, monkeypatch)
    remote = root / str(key).removeprefix(f"{tmp_path}/")
    read: list[tuple[int, int]] = []

    def read_ranges(name: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        read.extend(ranges)
        return FileStore(tmp_path).read_ranges(name, ranges)

    monkeypatch.setattr(opened, "read_ranges", read_ranges)
    check_file(remote, record)
    np.testing.assert_array_equal(read_column(remote, schema.ENTRY_COLUMN), unit.entries)
    assert opened.fetched == []
    assert len(read) <= 4, "two footers, and the column in each of two row groups"
    with pytest.raises(InvalidInputError, match=r"gone\.parquet is missing"):
        check_file(root / "gone.parquet", record)


@pytest.mark.parametrize("damage", ["cut short", "one bit", "missing"])
def test_a_damaged_file_is_refused_by_whoever_reads_it(tmp_path: Path, unit: SelectedUnit, damage: str) -> None:
    key, _ = written(tmp_path, unit)
    path = Path(str(key))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-1] if damage == "cut short" else content)
    expected = "is missing" if damage == "missing" else r"is damaged \(.*again, with --verify"
    with pytest.raises(InvalidInputError, match=f"{path.name} {expected}"):
        list(read_selected(key, np.arange(EVENTS)))


def rewritten(key: Key, table: pa.Table) -> Key:
    with key.create() as path:
        pq.write_table(table, path)
    return key


def test_other_columns_are_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    key, record = written(tmp_path, unit)
    with pytest.raises(InvalidInputError, match="vtxX"):
        check_file(rewritten(key, selected_table(unit).drop_columns(["vtxX"])), record)


def test_another_number_of_events_is_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    key, record = written(tmp_path, unit)
    with pytest.raises(InvalidInputError, match=f"has 5 events, its manifest says {EVENTS}"):
        check_file(rewritten(key, selected_table(unit).slice(0, 5)), record)


def test_particle_columns_of_different_length_are_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    key, _ = written(tmp_path, unit)
    table = selected_table(unit)
    shifted = pa.concat_arrays([chunk for chunk in table["Eta"].chunks]).take(pa.array(np.roll(np.arange(EVENTS), 1)))
    index = table.schema.get_field_index("Eta")
    changed = rewritten(key, table.set_column(index, table.schema.field(index), shifted))
    with pytest.raises(InvalidInputError, match="column Eta has other lengths than Pt"):
        list(read_selected(changed, np.arange(EVENTS)))
