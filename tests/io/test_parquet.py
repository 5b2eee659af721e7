from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.events import edge_cases, from_events, to_events
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.errors import InvalidInputError
from toposieve.io.parquet import (
    EVENTS_SCHEMA,
    SELECTED_SCHEMA,
    event_writer,
    events_to_arrow,
    open_parquet,
    read_event_batches,
    selected_to_arrow,
)
from toposieve.physics.events import EventBatch
from toposieve.physics.selection import select_events

EVENTS = list(edge_cases().values())


def batch_of(start: int, stop: int) -> EventBatch:
    return EventBatch(start, to_events(EVENTS[start:stop]), np.arange(start, stop, dtype=np.float32))


def write(path: Path, *batches: EventBatch) -> Path:
    with event_writer(path, EVENTS_SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(events_to_arrow(batch))
    return path


def test_events_survive(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", batch_of(0, 10), batch_of(10, len(EVENTS)))
    read = list(read_event_batches(path))
    assert [batch.entry_start for batch in read] == [0, 10]
    assert [from_events(batch.events, row) for batch in read for row in range(len(batch.weight))] == EVENTS
    assert np.concatenate([batch.weight for batch in read]).tolist() == list(range(len(EVENTS)))


def test_no_events_give_a_file_without_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    assert list(read_event_batches(path)) == []
    assert pq.read_schema(path).equals(EVENTS_SCHEMA)


def test_columns_are_compressed_without_dictionary_or_statistics(tmp_path: Path) -> None:
    group = pq.ParquetFile(write(tmp_path / "a.parquet", batch_of(0, 10))).metadata.row_group(0)
    for column in (group.column(index) for index in range(group.num_columns)):
        assert column.compression == "ZSTD"
        assert not column.is_stats_set
        assert not any("DICTIONARY" in encoding for encoding in column.encodings)


def test_selected_rows_are_those_that_passed() -> None:
    batch = batch_of(5, len(EVENTS))
    selected = select_events(batch.events, SelectionConfig(), btag_mask=1)
    rows = selected_to_arrow(batch, selected).to_pydict()
    assert rows[schema.ENTRY_COLUMN] == [5 + row for row in selected.rows]
    assert rows[schema.WEIGHT_COLUMN] == [5 + row for row in selected.rows]
    assert np.array_equal(rows[schema.HIGH_LEVEL_COLUMN], selected.high_level.astype(np.float32))
    assert [len(values) for values in rows["Pt"]] == np.diff(selected.offsets).tolist()
    kinds = np.concatenate(rows[schema.PARTICLE_KIND_COLUMN])
    assert np.array_equal(kinds, selected.particles[schema.PARTICLE_KIND_COLUMN])


def test_no_selected_rows_are_fine() -> None:
    batch = batch_of(0, 1)
    rows = selected_to_arrow(batch, select_events(batch.events, SelectionConfig(), btag_mask=1))
    assert rows.num_rows == 0
    assert rows.schema.equals(SELECTED_SCHEMA)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(InvalidInputError, match=r"a.parquet: not a Parquet file"):
        open_parquet(tmp_path / "a.parquet", EVENTS_SCHEMA)


def test_other_columns_are_refused_and_named(tmp_path: Path) -> None:
    narrow = EVENTS_SCHEMA.remove(EVENTS_SCHEMA.get_field_index("Jet_BTag"))
    wrong = narrow.set(0, pa.field("entry", pa.int32(), nullable=False))
    pq.write_table(wrong.empty_table(), tmp_path / "a.parquet")
    with pytest.raises(InvalidInputError, match=r"a.parquet: columns entry, Jet_BTag are not as expected"):
        open_parquet(tmp_path / "a.parquet", EVENTS_SCHEMA)
