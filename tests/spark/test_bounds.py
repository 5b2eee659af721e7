"""How much a task may have to hold: less than what the configuration says, where events are large."""

import pytest

from toposieve.config import IngestConfig, PreparationConfig
from toposieve.io.datasets import SelectedUnit
from toposieve.io.manifests import OutputFile, Unit
from toposieve.io.store import Key
from toposieve.spark.ingestion import UNIT_BYTES, unit_entries
from toposieve.spark.preparation import SHARD_BYTES, with_bounded_shards


@pytest.mark.parametrize(
    ("event_bytes", "entries"),
    [(13_000, 10_000), (83_000, 10_000), (260_000, 3269), (2 * UNIT_BYTES, 1)],
    ids=["ours", "as published", "pile-up of 200", "absurd"],
)
def test_a_unit_has_no_more_bytes_than_a_task_can_hold(event_bytes: int, entries: int) -> None:
    assert unit_entries(100_000, 100_000 * event_bytes, IngestConfig()) == entries


def test_an_empty_file_is_a_unit_all_the_same() -> None:
    assert unit_entries(0, 0, IngestConfig()) == 1


def selected(events: int, size: int) -> SelectedUnit:
    file = OutputFile(path="a.parquet", bytes=size, checksum="00")
    counts = {"events": 2 * events, "lepton_pt": events, "isolated_lepton": events}
    unit = Unit(source="qcd/a.root", source_checksum="00", entry_start=0, entry_stop=9, counts=counts, outputs=(file,))
    return SelectedUnit(Key("/selected"), unit, 0)


@pytest.mark.parametrize(
    ("event_bytes", "most"), [(12_000, 4000), (240_000, 1066), (2 * SHARD_BYTES, 1)], ids=["ours", "200", "absurd"]
)
def test_a_shard_has_no_more_bytes_than_a_task_can_hold(event_bytes: int, most: int) -> None:
    units = [selected(events, events * event_bytes) for events in (100, 1, 1000)]
    assert with_bounded_shards(PreparationConfig(), units).events_per_shard == most


def test_what_is_asked_for_may_be_less() -> None:
    config = PreparationConfig(events_per_shard=7, seed=5)
    assert with_bounded_shards(config, [selected(10, 240_000)]) == config
