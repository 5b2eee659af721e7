import math

import numpy as np
import pytest

from toposieve.io.store import Key
from toposieve.simulation.pileup import (
    LIBRARY_DTYPE,
    LibraryFiles,
    PileupLibrary,
    generate_block,
    leaves_trace,
    load_library,
    overlay,
    place_vertices,
    rotate,
)

COLUMNS = ("pdg", "charge", "px", "py", "pz", "energy", "x", "y", "z")


def particles(n, event=0, **values):
    table = {name: np.full(n, float(values.get(name, 0.0))) for name in COLUMNS}
    return {"event": np.full(n, event), **table, "pdg": np.full(n, 211)}


def library(*sizes):
    """Event ``i`` has ``sizes[i]`` particles with px = i + 1."""
    table = particles(sum(sizes))
    del table["event"]
    table["px"] = np.repeat(np.arange(len(sizes)) + 1.0, sizes)
    return PileupLibrary(table, np.concatenate([[0], np.cumsum(sizes)]))


def test_overlay_keeps_the_hard_event_and_adds_whole_collisions():
    hard = particles(5, px=100.0)
    mixed, _ = overlay(hard, 1, library(2, 3, 4), 10.0, np.random.default_rng(1))
    assert mixed["px"][:5].tolist() == [100.0] * 5
    soft = np.hypot(mixed["px"], mixed["py"])[5:]
    for index, size in enumerate((2, 3, 4)):
        # Rotation leaves PT: each collision is there with all its particles, some number of times.
        assert np.isclose(soft, index + 1).sum() % size == 0
    assert len(soft) > 0


def test_number_of_collisions_is_poisson():
    n = 20_000
    mixed, collisions = overlay(particles(0), n, library(1), 3.0, np.random.default_rng(1))
    counts = np.bincount(mixed["event"], minlength=n)
    assert collisions.tolist() == counts.tolist()
    assert counts.mean() == pytest.approx(3.0, abs=0.06)
    assert counts.var() == pytest.approx(3.0, rel=0.05)


def test_no_pileup_adds_nothing():
    mixed, _ = overlay(particles(5, px=100.0), 1, library(2), 0.0, np.random.default_rng(1))
    assert len(mixed["px"]) == 5


def test_collisions_are_rotated_and_spread_along_the_beam():
    mixed, _ = overlay(particles(0), 5000, library(1), 2.0, np.random.default_rng(1))
    phi = np.arctan2(mixed["py"], mixed["px"])
    assert np.histogram(phi, bins=4, range=(-math.pi, math.pi))[0] / len(phi) == pytest.approx([0.25] * 4, abs=0.02)
    assert mixed["z"].std() == pytest.approx(53.0, rel=0.03)
    assert mixed["z"].mean() == pytest.approx(0.0, abs=3.0)


def test_particles_of_one_collision_stay_together():
    mixed, _ = overlay(particles(0), 200, library(3), 1.0, np.random.default_rng(1))
    triples = mixed["z"].reshape(-1, 3)  # (collisions, particles)
    assert np.array_equal(triples[:, 0], triples[:, 2])
    assert len(np.unique(triples[:, 0])) == len(triples)


def test_hard_collisions_move_as_a_whole():
    table = {"event": np.array([0, 0, 1]), "z": np.array([0.0, 2.0, 0.0])}
    z = place_vertices(table, 2, np.random.default_rng(1))["z"]
    assert z[1] - z[0] == pytest.approx(2.0)
    assert z[2] != z[0]


def test_rotate_by_a_quarter():
    x, y = rotate(np.array([1.0]), np.array([2.0]), np.array([math.pi / 2]))
    assert (x[0], y[0]) == pytest.approx((-2.0, 1.0))


def test_the_library_keeps_what_leaves_a_trace():
    table = {
        "pdg": np.array([211, 14, 22, 22]),
        "px": np.array([0.11, 5.0, 0.09, 1.0]),
        "py": np.zeros(4),
        "pz": np.array([0.0, 0.0, 0.0, math.sinh(5.01)]),
    }
    assert leaves_trace(table).tolist() == [True, False, False, False]


def test_blocks_are_read_as_one_library(tmp_path):
    keys, sizes = [], (3, 2)
    for number, (n_events, events) in enumerate(zip(sizes, ([0, 0, 2], [1]), strict=True)):
        block = np.zeros(len(events), LIBRARY_DTYPE)
        block["event"], block["px"] = events, 10 * number + np.arange(len(events))
        keys.append(Key(str(tmp_path), f"{number}.npy"))
        np.save(tmp_path / f"{number}.npy", block)
        assert n_events > max(events)
    read = load_library(LibraryFiles(tuple(keys), sizes))
    assert len(read) == 5  # events without particles count
    assert np.diff(read.offsets).tolist() == [2, 0, 1, 0, 1]
    assert read.particles["px"].tolist() == [0.0, 1.0, 2.0, 10.0]
    assert load_library(LibraryFiles(tuple(keys), sizes)) is read


def test_minimum_bias_block():
    block = generate_block(seed=3, n_events=20)  # most of the time goes into starting Pythia
    assert block.dtype == LIBRARY_DTYPE
    assert np.all(np.diff(block["event"]) >= 0)
    assert block["event"].max() <= 19
    assert 20 < len(block) / 20 < 400
    assert np.hypot(block["px"], block["py"]).min() > 0.1
