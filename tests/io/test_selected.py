"""Writing selected files in order, and reading them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.copying_store import copying_store
from support.selected_files import SelectedUnit, batch_of, random_unit, with_value, write_selected
from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io import manifests
from toposieve.io import selected as selected_module
from toposieve.io.parquet import SELECTED_SCHEMA
from toposieve.io.selected import (
    BATCH_EVENTS,
    SelectedBatch,
    check_file,
    event_keys,
    read_column,
    read_selected,
    write_ordered,
)
from toposieve.io.store import Key
from toposieve.io.store.file import FileStore

FILE = "qcd/d/qcd-000000.root"
EVENTS = 3 * BATCH_EVENTS + 400
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


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory, unit: SelectedUnit) -> Key:
    return written(tmp_path_factory.mktemp("selected"), unit)[0]


# --- writing -----------------------------------------------------------------------------------------------------


def key_by_hand(file: str, entry: int) -> int:
    """SplitMix64 in Python's integers."""
    state = int.from_bytes(hashlib.blake2b(file.encode(), digest_size=8).digest(), "little")
    value = (state + entry * 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def test_keys_are_those_of_splitmix64() -> None:
    # First outputs from state 1234567, as published with the generator.
    assert selected_module.mix(np.array([1234567 + 0x9E3779B97F4A7C15], np.uint64)).tolist() == [6457827717110365317]
    entries = np.array([0, 1, 2, 10**12])
    assert event_keys(FILE, entries).tolist() == [key_by_hand(FILE, entry) for entry in entries.tolist()]


def test_a_file_is_in_the_order_of_its_keys(key: Key, unit: SelectedUnit) -> None:
    keys, entries = (read_column(key, name) for name in (schema.KEY_COLUMN, schema.ENTRY_COLUMN))
    assert sorted(entries) == unit.entries.tolist()
    assert np.array_equal(keys, event_keys(FILE, entries))
    assert np.all(keys[1:] > keys[:-1])
    assert not np.array_equal(entries, unit.entries)


def test_the_same_file_however_its_events_come_in_batches(tmp_path: Path, key: Key, unit: SelectedUnit) -> None:
    whole = batch_of(unit)
    cuts = [0, 0, 1, 250, EVENTS]
    write_ordered(tmp_path / "a", FILE, [whole.slice(a, b - a) for a, b in pairwise(cuts)])
    assert (tmp_path / "a").read_bytes() == Path(str(key)).read_bytes()


def test_row_groups_are_bounded_in_particles(key: Key) -> None:
    with pq.ParquetFile(str(key)) as file:
        groups = [file.read_row_group(group, columns=["Pt"])["Pt"] for group in range(file.num_row_groups)]
    sizes = [sum(map(len, group.to_pylist())) for group in groups]
    assert max(sizes) < SMALL_GROUP + 12
    assert min(sizes[:-1]) > SMALL_GROUP - 12


@pytest.mark.parametrize("batches", [0, 1])
def test_no_events_give_a_file_without_rows(tmp_path: Path, unit: SelectedUnit, batches: int) -> None:
    write_ordered(tmp_path / "a", FILE, [batch_of(unit).slice(0, 0)] * batches)
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


def check_events(batches: list[SelectedBatch], unit: SelectedUnit, rows: np.ndarray) -> None:
    events = np.argsort(event_keys(unit.file, unit.entries))  # positions in the unit, in file order
    chosen = events[rows]
    np.testing.assert_array_equal(np.concatenate([batch.rows for batch in batches]), rows)
    np.testing.assert_array_equal(np.concatenate([batch.entries for batch in batches]), unit.entries[chosen])
    np.testing.assert_array_equal(np.concatenate([batch.weights for batch in batches]), unit.weights[chosen])
    np.testing.assert_array_equal(np.concatenate([batch.high_level for batch in batches]), unit.high_level[chosen])
    for batch in batches:
        for i, event in enumerate(events[batch.rows]):
            ours, theirs = slice(*batch.offsets[i : i + 2]), slice(*unit.offsets[event : event + 2])
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
    ordered = np.argsort(event_keys(FILE, unit.entries))
    np.testing.assert_array_equal(read_column(key, schema.WEIGHT_COLUMN), unit.weights[ordered])


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
    assert sorted(read_column(remote, schema.ENTRY_COLUMN)) == unit.entries.tolist()
    assert opened.fetched == []
    groups = pq.ParquetFile(str(key)).num_row_groups
    assert len(read) <= 2 + groups, "two footers, and the column in each row group"
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
        check_file(rewritten(key, pq.read_table(str(key)).drop_columns(["vtxX"])), record)


def test_another_number_of_events_is_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    key, record = written(tmp_path, unit)
    with pytest.raises(InvalidInputError, match=f"has 5 events, its manifest says {EVENTS}"):
        check_file(rewritten(key, pq.read_table(str(key), schema=SELECTED_SCHEMA).slice(0, 5)), record)


def test_particle_columns_of_different_length_are_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    key, _ = written(tmp_path, unit)
    table = pq.read_table(str(key), schema=SELECTED_SCHEMA)
    shifted = table["Eta"].combine_chunks().take(pa.array(np.roll(np.arange(EVENTS), 1)))
    index = table.schema.get_field_index("Eta")
    changed = rewritten(key, table.set_column(index, table.schema.field(index), shifted))
    with pytest.raises(InvalidInputError, match="column Eta has other lengths than Pt"):
        list(read_selected(changed, np.arange(EVENTS)))
