"""Writing selected files in order, and reading them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.copying_store import copying_store
from support.events import edge_cases, to_events
from support.selected_files import SelectedUnit, batch_of, random_unit, with_value, write_selected
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.errors import InvalidInputError
from toposieve.event_keys import event_keys
from toposieve.io import manifests
from toposieve.io import selected as selected_module
from toposieve.io.parquet import SELECTED_SCHEMA
from toposieve.io.selected import SelectedBatch, open_selected, write_ordered
from toposieve.io.store import Key
from toposieve.io.store.file import FileStore
from toposieve.physics.events import EventBatch
from toposieve.physics.selection import select_events

FILE = "qcd/d/qcd-000000.root"
EVENTS = 592
SMALL_GROUP = 1000
"""Particles: a few row groups for this many events."""


@pytest.fixture(autouse=True, scope="module")
def small_groups() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selected_module, "GROUP_PARTICLES", SMALL_GROUP)
        yield


@pytest.fixture(scope="module")
def unit() -> SelectedUnit:
    return random_unit(FILE, EVENTS, seed=1)


def written(folder: Path, unit: SelectedUnit) -> tuple[Key, manifests.Unit]:
    """The file, and its entry in the manifest."""
    directory = write_selected(folder, "d", [unit])
    record = manifests.read_manifest(directory).units[0]
    return directory / record.outputs[0].path, record


Written = tuple[Key, manifests.Unit]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, unit: SelectedUnit) -> Written:
    return written(tmp_path_factory.mktemp("selected"), unit)


@pytest.fixture(scope="module")
def key(file: Written) -> Key:
    return file[0]


def column(key: Key, name: str) -> np.ndarray:
    values: np.ndarray = pq.read_table(str(key))[name].to_numpy()
    return values


def batches_of(file: Written, rows: np.ndarray) -> list[SelectedBatch]:
    with open_selected(*file) as opened:
        return list(opened.batches(rows))


# --- writing -----------------------------------------------------------------------------------------------------


def test_a_file_is_in_the_order_of_its_keys(key: Key, unit: SelectedUnit) -> None:
    keys, entries = (column(key, name) for name in (schema.KEY_COLUMN, schema.ENTRY_COLUMN))
    assert sorted(entries) == unit.entries.tolist()
    assert np.array_equal(keys, event_keys(FILE, entries))
    assert np.all(keys[1:] > keys[:-1])
    assert not np.array_equal(entries, unit.entries)


def test_the_same_file_however_its_events_come_in_batches(tmp_path: Path, key: Key, unit: SelectedUnit) -> None:
    cuts = [0, 0, 1, 250, EVENTS]
    write_ordered(tmp_path / "a", FILE, [batch_of(unit, *ends) for ends in pairwise(cuts)])
    assert (tmp_path / "a").read_bytes() == Path(str(key)).read_bytes()


def test_row_groups_are_bounded_in_particles(key: Key) -> None:
    with pq.ParquetFile(str(key)) as file:
        groups = [file.read_row_group(group, columns=["Pt"])["Pt"] for group in range(file.num_row_groups)]
    sizes = [sum(map(len, group.to_pylist())) for group in groups]
    assert max(sizes) < SMALL_GROUP + 12
    assert min(sizes[:-1]) > SMALL_GROUP - 12


def test_the_selected_of_a_batch_are_those_that_passed() -> None:
    everything = list(edge_cases().values())
    numbers = np.arange(len(everything))
    batch = EventBatch(5, to_events(everything), numbers.astype(np.float32), numbers.astype(np.int32) + 7)
    selected = select_events(batch.events, SelectionConfig(), btag_mask=1)
    found = SelectedBatch.of(batch, selected)
    assert found.entries.tolist() == (5 + selected.rows).tolist()
    assert found.weights.tolist() == selected.rows.tolist()
    assert found.pileup.tolist() == (selected.rows + 7).tolist()
    assert np.array_equal(found.high_level, selected.high_level.astype(np.float32))


@pytest.mark.parametrize("batches", [0, 1])
def test_no_events_give_a_file_without_rows(tmp_path: Path, unit: SelectedUnit, batches: int) -> None:
    write_ordered(tmp_path / "a", FILE, [batch_of(unit, 0, 0)] * batches)
    with pq.ParquetFile(tmp_path / "a") as file:
        assert (file.metadata.num_rows, file.num_row_groups) == (0, 0)
        assert file.schema_arrow.equals(SELECTED_SCHEMA)


@pytest.mark.parametrize(
    ("column", "value", "feature"),
    [
        ("Pt", np.nan, "Energy, Px, Py, Pz, Pt"),
        ("Eta", 200.0, "Energy, Pz"),
        ("vtxX", np.inf, "vtxX"),
    ],
)
def test_values_that_are_not_finite_are_refused(
    tmp_path: Path, unit: SelectedUnit, column: str, value: float, feature: str
) -> None:
    bad = with_value(unit, column, int(unit.offsets[2]), value)
    with pytest.raises(InvalidInputError, match=rf"{FILE} has a NaN .* in entry {unit.entries[2]} \({feature}\)"):
        write_ordered(tmp_path / "a", FILE, [batch_of(bad)])


def test_a_weight_that_is_not_finite_is_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    bad = replace(unit, weights=np.where(np.arange(EVENTS) == 7, np.nan, unit.weights).astype(np.float32))
    with pytest.raises(InvalidInputError, match=rf"in entry {unit.entries[7]} \(weight\)"):
        write_ordered(tmp_path / "a", FILE, [batch_of(bad)])


def test_large_but_finite_values_are_kept(tmp_path: Path, unit: SelectedUnit) -> None:
    write_ordered(tmp_path / "a", FILE, [batch_of(with_value(unit, "Eta", 5, 60.0))])


# --- reading -----------------------------------------------------------------------------------------------------


def check_events(batches: list[SelectedBatch], unit: SelectedUnit) -> np.ndarray:
    """The rows that the batches hold, once their events are what was written."""
    events = np.argsort(event_keys(unit.file, unit.entries))  # positions in the unit, in file order
    for batch in batches:
        chosen = events[batch.rows]
        np.testing.assert_array_equal(batch.entries, unit.entries[chosen])
        np.testing.assert_array_equal(batch.weights, unit.weights[chosen])
        np.testing.assert_array_equal(batch.high_level, unit.high_level[chosen])
        for i, event in enumerate(chosen):
            ours, theirs = slice(*batch.offsets[i : i + 2]), slice(*unit.offsets[event : event + 2])
            for name, values in batch.particles.items():
                np.testing.assert_array_equal(values[ours], unit.particles[name][theirs])
    return np.concatenate([batch.rows for batch in batches])


def bounds_of(file: Written) -> list[int]:
    with open_selected(*file) as opened:
        return opened.bounds.tolist()


def test_all_events(file: Written, unit: SelectedUnit) -> None:
    rows = np.arange(EVENTS)
    batches = batches_of(file, rows)
    assert np.array_equal(check_events(batches, unit), rows)
    assert [batch.rows[0] for batch in batches] == bounds_of(file)[:-1]


def test_a_run_of_events_is_read_alone(file: Written, unit: SelectedUnit) -> None:
    rows = np.arange(200, 420)
    assert np.array_equal(check_events(batches_of(file, rows), unit), rows)


def test_runs_at_both_ends_leave_the_row_groups_between_them(file: Written, unit: SelectedUnit) -> None:
    rows = np.array([3, 5, EVENTS - 1])
    assert check_events(batches_of(file, rows), unit).tolist() == [3, 4, 5, EVENTS - 1]


def test_no_events(file: Written) -> None:
    assert batches_of(file, np.array([], int)) == []


@pytest.mark.parametrize("rows", [np.arange(EVENTS), np.array([0, 7, 300, EVENTS - 1]), np.array([], int)])
def test_flat_columns_of_some_events(file: Written, unit: SelectedUnit, rows: np.ndarray) -> None:
    chosen = np.argsort(event_keys(FILE, unit.entries))[rows]
    with open_selected(*file) as opened:
        weights, high_level = opened.flat(rows)
    np.testing.assert_array_equal(weights, unit.weights[chosen])
    np.testing.assert_array_equal(high_level, unit.high_level[chosen])


def test_packed_particles_hold_the_same_values(file: Written) -> None:
    batch = batches_of(file, np.arange(5))[0]
    records = batch.particle_records()
    for name, values in batch.particles.items():
        np.testing.assert_array_equal(records[name], values)


def test_of_a_remote_file_little_is_read_for_its_check_and_its_keys(
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
    with open_selected(remote, record) as file:
        assert sorted(file.keys()) == sorted(event_keys(FILE, unit.entries))
    assert opened.fetched == []
    assert len(read) <= 1 + pq.ParquetFile(str(key)).num_row_groups, "the footer, and the column in each row group"
    with pytest.raises(InvalidInputError, match=r"gone\.parquet is missing"):
        batches_of((root / "gone.parquet", record), np.arange(0))


@pytest.mark.parametrize("damage", ["cut short", "one bit", "missing"])
def test_a_damaged_file_is_refused_by_whoever_reads_it(tmp_path: Path, unit: SelectedUnit, damage: str) -> None:
    key, record = written(tmp_path, unit)
    path = Path(str(key))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-1] if damage == "cut short" else content)
    expected = "is missing" if damage == "missing" else r"is damaged \(.*again, with --verify"
    with pytest.raises(InvalidInputError, match=f"{path.name} {expected}"):
        batches_of((key, record), np.arange(EVENTS))


def rewritten(key: Key, table: pa.Table) -> Key:
    with key.create() as path:
        pq.write_table(table, path)
    return key


def test_other_columns_are_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    key, record = written(tmp_path, unit)
    with pytest.raises(InvalidInputError, match="vtxX"):
        batches_of((rewritten(key, pq.read_table(str(key)).drop_columns(["vtxX"])), record), np.arange(0))


def test_another_number_of_events_is_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    key, record = written(tmp_path, unit)
    with pytest.raises(InvalidInputError, match=f"has 5 events, its manifest says {EVENTS}"):
        batches_of((rewritten(key, pq.read_table(str(key), schema=SELECTED_SCHEMA).slice(0, 5)), record), np.arange(0))


def test_particle_columns_of_different_length_are_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    key, record = written(tmp_path, unit)
    table = pq.read_table(str(key), schema=SELECTED_SCHEMA)
    shifted = table["Eta"].combine_chunks().take(pa.array(np.roll(np.arange(EVENTS), 1)))
    index = table.schema.get_field_index("Eta")
    changed = rewritten(key, table.set_column(index, table.schema.field(index), shifted))
    with pytest.raises(InvalidInputError, match="column Eta has other lengths than Pt"):
        batches_of((changed, record), np.arange(EVENTS))
