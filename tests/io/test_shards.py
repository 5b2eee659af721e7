"""Shards: order, scaling, and both forms of the files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from support.selected_files import random_unit, write_selected
from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io import manifests
from toposieve.io.event_tables import read_offsets, read_table
from toposieve.io.selected import SelectedBatch, open_selected
from toposieve.io.shards import ShardBatch, write_shard
from toposieve.io.store import Key
from toposieve.physics.features import low_level_features, pad_sequences
from toposieve.physics.moments import Moments
from toposieve.preprocessing import SCALED_FEATURES, Scaling
from toposieve.spark.preparation_passes import scale_particles

LOW = {name: i for i, name in enumerate(schema.LOW_LEVEL_FEATURES)}
EVENTS = 40


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> SelectedBatch:
    directory = write_selected(tmp_path_factory.mktemp("shards"), "d", [random_unit("qcd/d/a.root", EVENTS, seed=2)])
    [unit] = manifests.read_manifest(directory).units
    with open_selected(directory / unit.outputs[0].path, unit) as file:
        [batch] = file.batches(np.arange(EVENTS))
    return batch


@pytest.fixture(scope="module")
def scaling(selected: SelectedBatch) -> Scaling:
    weights = np.repeat(selected.weights, np.diff(selected.offsets))
    moments = Moments.of(low_level_features(selected.particles), weights, len(SCALED_FEATURES))
    extremes = selected.high_level.min(axis=0), selected.high_level.max(axis=0)
    return Scaling.fit(*extremes, [("qcd", moments)], dict.fromkeys(schema.SAMPLES, 1.0))


@pytest.fixture(scope="module")
def batch(selected: SelectedBatch, scaling: Scaling) -> ShardBatch:
    return ShardBatch(
        event_ids=[f"qcd/d/a.root:{entry}" for entry in selected.entries],
        labels=np.zeros(EVENTS, np.int64),
        weights=scaling.apply_weights(["qcd"] * EVENTS, selected.weights),
        pileup=selected.pileup,
        high_level=scaling.apply_high_level(selected.high_level),
        offsets=selected.offsets,
        particles=scale_particles(selected.particle_records(), selected.offsets, scaling),
    )


def delta_r(eta: float, phi: float, lepton_eta: float, lepton_phi: float) -> float:
    return math.hypot(eta - lepton_eta, math.remainder(phi - lepton_phi, 2 * math.pi))


def test_particles_come_by_decreasing_distance_and_the_lepton_last(
    selected: SelectedBatch, scaling: Scaling, batch: ShardBatch
) -> None:
    unscaled = batch.particles.astype(float) * scaling.particle_scale + scaling.particle_offset
    for i in range(EVENTS):
        event = slice(*selected.offsets[i : i + 2])
        pt, eta, phi = (selected.particles[name][event].astype(float) for name in ("Pt", "Eta", "Phi"))
        order = sorted(range(1, len(pt)), key=lambda k: -delta_r(eta[k], phi[k], eta[0], phi[0]))
        np.testing.assert_allclose(unscaled[event, LOW["Pt"]], pt[[*order, 0]], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(unscaled[event, LOW["Px"]], (pt * np.cos(phi))[[*order, 0]], rtol=1e-4, atol=1e-4)


def test_padding_stays_zero_so_that_masking_works(selected: SelectedBatch, scaling: Scaling, batch: ShardBatch) -> None:
    """Published: padded rows are sorted and standardised among particles; a mask for zeros no longer finds them."""
    lengths = np.diff(selected.offsets)
    padding = np.arange(schema.MAX_PARTICLES) >= lengths[:, None]  # (events, 801)
    ours = pad_sequences(selected.offsets, batch.particles)
    published = pad_sequences(selected.offsets, low_level_features(selected.particles)).reshape(-1, len(LOW))
    published = scaling.apply_particles(published).reshape(ours.shape)
    assert np.all(ours[padding] == 0)
    assert np.all(np.any(ours[~padding] != 0, axis=-1))
    assert np.all(np.any(published[padding] != 0, axis=-1))


def test_both_forms_hold_the_same_numbers(tmp_path: Path, batch: ShardBatch) -> None:
    paths = [tmp_path / "shard.tfrecord", tmp_path / "shard.parquet"]
    counts = write_shard(paths[0], tmp_path / "table", paths[1], iter([batch]), schema.SAMPLES)
    assert counts == {"qcd": EVENTS, "ttbar": 0, "wjets": 0}
    records = [tf.train.Example.FromString(r.numpy()).features.feature for r in tf.data.TFRecordDataset(str(paths[0]))]
    rows = pq.read_table(paths[1]).to_pylist()
    assert len(records) == len(rows) == EVENTS
    for record, row in zip(records, rows, strict=True):
        assert record.keys() == set(schema.RECORD_KEYS.values())
        assert record["event_id"].bytes_list.value == [row["event_id"].encode()]
        assert record["label"].int64_list.value == [row["label"]]
        assert record["weight"].float_list.value == [row["weight"]]
        assert record["length"].int64_list.value == [len(row["Pt"])]
        assert list(record["hlf"].float_list.value) == [row[name] for name in schema.HIGH_LEVEL_FEATURES]
        particles = np.array(record["particles"].float_list.value).reshape(-1, len(LOW))  # (length, 19)
        for name, column in LOW.items():
            assert particles[:, column].tolist() == row[name]


def test_records_hold_the_batch(tmp_path: Path, batch: ShardBatch) -> None:
    path = tmp_path / "shard.tfrecord"
    write_shard(path, tmp_path / "table", None, iter([batch]), schema.SAMPLES)
    record = next(iter(tf.data.TFRecordDataset(str(path)))).numpy()
    feature = tf.train.Example.FromString(record).features.feature
    length = int(batch.offsets[1])
    assert feature["length"].int64_list.value == [length]
    np.testing.assert_array_equal(feature["hlf"].float_list.value, batch.high_level[0])
    np.testing.assert_array_equal(feature["particles"].float_list.value, batch.particles[:length].reshape(-1))


def test_the_table_says_where_each_record_begins_and_all_but_its_particles(tmp_path: Path, batch: ShardBatch) -> None:
    path, table = tmp_path / "shard.tfrecord", Key(str(tmp_path)) / "table"
    write_shard(
        path, tmp_path / "table", None, iter([part_of(batch, 0, 25), part_of(batch, 25, EVENTS)]), schema.SAMPLES
    )
    content, offsets = path.read_bytes(), read_offsets(table, EVENTS)
    rows = read_table(table, EVENTS, manifests.adler32(tmp_path / "table")).to_pylist()
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    for i, (record, row, offset) in enumerate(zip(records, rows, offsets.tolist(), strict=True)):
        assert content[offset + 12 : offset + 12 + len(record)] == record
        assert row["offset"] == offset
        assert [row[name] for name in ("event_id", "label", "weight")] == [batch.event_ids[i], 0, batch.weights[i]]
        assert [row[name] for name in schema.HIGH_LEVEL_FEATURES] == batch.high_level[i].tolist()
        assert row["is_electron"] == (batch.particles[batch.offsets[i + 1] - 1, LOW["isEle"]] == 1)
        assert row["pileup"] == (None if batch.pileup[i] == schema.NO_PILEUP else batch.pileup[i])
    assert {row["is_electron"] for row in rows} == {True, False}
    assert None in {row["pileup"] for row in rows}
    with pytest.raises(InvalidInputError, match="has 40 rows, not 41"):
        read_offsets(table, EVENTS + 1)
    with pytest.raises(InvalidInputError, match="table is altered"):
        read_table(table, EVENTS, "0" * 8)


def part_of(batch: ShardBatch, start: int, stop: int) -> ShardBatch:
    offsets = batch.offsets[start : stop + 1]
    return ShardBatch(
        event_ids=batch.event_ids[start:stop],
        labels=batch.labels[start:stop],
        weights=batch.weights[start:stop],
        pileup=batch.pileup[start:stop],
        high_level=batch.high_level[start:stop],
        offsets=offsets - offsets[0],
        particles=batch.particles[offsets[0] : offsets[-1]],
    )
