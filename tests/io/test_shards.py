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
from toposieve.io import manifests
from toposieve.io.selected import SelectedBatch, open_selected
from toposieve.io.shards import ShardBatch, scale_particles, write_shard
from toposieve.physics.features import low_level_features, pad_sequences
from toposieve.physics.moments import Moments
from toposieve.preprocessing import SCALED_FEATURES, Scaling

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
    counts = write_shard(*paths, iter([batch]))
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
    write_shard(path, None, iter([batch]))
    record = next(iter(tf.data.TFRecordDataset(str(path)))).numpy()
    feature = tf.train.Example.FromString(record).features.feature
    length = int(batch.offsets[1])
    assert feature["length"].int64_list.value == [length]
    np.testing.assert_array_equal(feature["hlf"].float_list.value, batch.high_level[0])
    np.testing.assert_array_equal(feature["particles"].float_list.value, batch.particles[:length].reshape(-1))
