"""Reading selected files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.selected_files import SelectedUnit, random_unit, selected_table, write_selected
from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io import manifests
from toposieve.io.selected import BATCH_EVENTS, SelectedBatch, check_file, read_column, read_selected

FILE = "qcd/d/qcd-000000.root"
EVENTS = 3 * BATCH_EVENTS + 400


@pytest.fixture(scope="module")
def unit() -> SelectedUnit:
    return random_unit(FILE, EVENTS, seed=1)


def written(folder: Path, unit: SelectedUnit) -> tuple[Path, manifests.Unit]:
    directory = write_selected(folder, "d", [unit])
    return directory, manifests.read_manifest(directory).units[0]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, unit: SelectedUnit) -> Path:
    directory, record = written(tmp_path_factory.mktemp("selected"), unit)
    return directory / record.outputs[0].path


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


def test_all_events(path: Path, unit: SelectedUnit) -> None:
    rows = np.arange(EVENTS)
    batches = list(read_selected(path, rows))
    check_events(batches, unit, rows)
    assert max(len(batch.rows) for batch in batches) <= BATCH_EVENTS


@pytest.mark.parametrize("step", [2, 7, 333])
def test_some_events(path: Path, unit: SelectedUnit, step: int) -> None:
    rows = np.arange(1, EVENTS, step)
    check_events(list(read_selected(path, rows)), unit, rows)


def test_one_event_of_the_last_row_group(path: Path, unit: SelectedUnit) -> None:
    check_events(list(read_selected(path, np.array([EVENTS - 1]))), unit, np.array([EVENTS - 1]))


def test_no_events(path: Path) -> None:
    assert list(read_selected(path, np.array([], int))) == []


def test_packed_particles_hold_the_same_values(path: Path) -> None:
    batch = next(read_selected(path, np.arange(5)))
    records = batch.particle_records()
    for name, values in batch.particles.items():
        np.testing.assert_array_equal(records[name], values)


def test_a_flat_column(path: Path, unit: SelectedUnit) -> None:
    np.testing.assert_array_equal(read_column(path, schema.ENTRY_COLUMN), unit.entries)


def test_an_intact_file_passes(tmp_path: Path, unit: SelectedUnit) -> None:
    check_file(*written(tmp_path, unit))


def test_an_altered_file_is_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    directory, record = written(tmp_path, unit)
    path = directory / record.outputs[0].path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidInputError, match="altered or cut short"):
        check_file(directory, record)


def rewritten(directory: Path, record: manifests.Unit, table: pa.Table) -> manifests.Unit:
    path = directory / record.outputs[0].path
    pq.write_table(table, path)
    return record.model_copy(update={"outputs": (manifests.describe_file(path, directory),)})


def test_other_columns_are_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    directory, record = written(tmp_path, unit)
    with pytest.raises(InvalidInputError, match="vtxX"):
        check_file(directory, rewritten(directory, record, selected_table(unit).drop_columns(["vtxX"])))


def test_another_number_of_events_is_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    directory, record = written(tmp_path, unit)
    with pytest.raises(InvalidInputError, match=f"has 5 events, its manifest says {EVENTS}"):
        check_file(directory, rewritten(directory, record, selected_table(unit).slice(0, 5)))


def test_particle_columns_of_different_length_are_refused(tmp_path: Path, unit: SelectedUnit) -> None:
    directory, record = written(tmp_path, unit)
    table = selected_table(unit)
    shifted = pa.concat_arrays([chunk for chunk in table["Eta"].chunks]).take(pa.array(np.roll(np.arange(EVENTS), 1)))
    index = table.schema.get_field_index("Eta")
    changed = rewritten(directory, record, table.set_column(index, table.schema.field(index), shifted))
    with pytest.raises(InvalidInputError, match="column Eta has other lengths than Pt"):
        list(read_selected(directory / changed.outputs[0].path, np.arange(EVENTS)))
