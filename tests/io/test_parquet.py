from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.events import edge_cases, from_events, to_events
from toposieve import schema
from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.io.parquet import (
    EVENTS_SCHEMA,
    event_writer,
    events_to_arrow,
    open_parquet,
    read_event_batches,
)
from toposieve.io.store import Key
from toposieve.physics.events import EventBatch

EVENTS = list(edge_cases().values())


def batch_of(start: int, stop: int) -> EventBatch:
    numbers = np.arange(start, stop)
    return EventBatch(
        start, to_events(EVENTS[start:stop]), numbers.astype(np.float32), numbers.astype(np.int32) + schema.NO_PILEUP
    )


def write(path: Path, *batches: EventBatch) -> Key:
    with event_writer(path, EVENTS_SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(events_to_arrow(batch))
    return Key(str(path.parent), path.name)


def test_events_survive(tmp_path: Path) -> None:
    key = write(tmp_path / "a.parquet", batch_of(0, 10), batch_of(10, len(EVENTS)))
    read = list(read_event_batches(key))
    assert [batch.entry_start for batch in read] == [0, 10]
    assert [from_events(batch.events, row) for batch in read for row in range(len(batch.weight))] == EVENTS
    assert np.concatenate([batch.weight for batch in read]).tolist() == list(range(len(EVENTS)))
    assert np.concatenate([batch.pileup for batch in read]).tolist() == list(range(-1, len(EVENTS) - 1))
    assert pq.read_table(str(key))["pileup"].to_pylist() == [None, *range(len(EVENTS) - 1)]


def test_no_events_give_a_file_without_rows(tmp_path: Path) -> None:
    key = write(tmp_path / "a.parquet")
    assert list(read_event_batches(key)) == []
    assert pq.read_schema(str(key)).equals(EVENTS_SCHEMA)


def test_columns_are_compressed_without_dictionary_or_statistics(tmp_path: Path) -> None:
    group = pq.ParquetFile(str(write(tmp_path / "a.parquet", batch_of(0, 10)))).metadata.row_group(0)
    for column in (group.column(index) for index in range(group.num_columns)):
        assert column.compression == "LZ4"
        assert not column.is_stats_set
        assert not any("DICTIONARY" in encoding for encoding in column.encodings)


# --- what is not as it should be -----------------------------------------------------------------------------------


def refuse(key: Key, pattern: str) -> None:
    with pytest.raises(InvalidInputError, match=pattern):
        list(read_event_batches(key))


def test_every_changed_bit_of_a_page_is_noticed(tmp_path: Path) -> None:
    key = write(tmp_path / "a.parquet", batch_of(0, len(EVENTS)))
    with open_parquet(key, EVENTS_SCHEMA) as file:
        groups = file.metadata.row_group(0)
        starts = [groups.column(index).data_page_offset for index in range(groups.num_columns)]
        sizes = [groups.column(index).total_compressed_size for index in range(groups.num_columns)]
    good = key.read_bytes()
    for start, size in zip(starts, sizes, strict=True):
        content = bytearray(good)
        content[start + size - 1] ^= 1  # the last byte of a page's content
        key.write_bytes(content)
        refuse(key, r"a.parquet is damaged \(.*\): run the stage that writes it again, with --verify")


@pytest.mark.parametrize("content", [b"no parquet at all", b"", b"PAR1" * 5])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    refuse(Key(str(tmp_path), "a.parquet"), r"a.parquet is damaged \(")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    key = write(tmp_path / "a.parquet", batch_of(0, 10))
    key.write_bytes(key.read_bytes()[:-10])
    refuse(key, r"a.parquet is damaged \(")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refuse(Key(str(tmp_path), "a.parquet"), rf"a.parquet is missing: run the stage that writes {tmp_path} again")


def test_other_columns_are_refused_and_named(tmp_path: Path) -> None:
    narrow = EVENTS_SCHEMA.remove(EVENTS_SCHEMA.get_field_index("Jet_BTag"))
    wrong = narrow.set(0, pa.field("entry", pa.int32(), nullable=False))
    pq.write_table(wrong.empty_table(), tmp_path / "a.parquet")
    refuse(Key(str(tmp_path), "a.parquet"), r"a.parquet: columns entry, Jet_BTag are not as expected; .* --recompute")


def test_an_error_of_the_network_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    key = write(tmp_path / "a.parquet", batch_of(0, 10))
    with pytest.raises(UnavailableError), open_parquet(key, EVENTS_SCHEMA):
        raise UnavailableError("host.example does not answer")
