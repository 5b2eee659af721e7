import math

import numpy as np
import pytest

from toposieve.simulation.calorimeter import (
    ECAL,
    HCAL,
    Calorimeter,
    ecal_resolution,
    energy_flow,
    hcal_resolution,
    measure,
)


def perfect(sigma=1e-6, energy_min=0.5, significance_min=2.0):
    """A calorimeter with 4 × 4 cells and a resolution that does not smear."""
    return Calorimeter(
        eta_edges=np.array([-2.0, -1.0, 0.0, 1.0, 2.0]),
        phi_cells=np.array([4, 4, 4, 4]),
        resolution=lambda eta, energy: np.full_like(energy, sigma),
        energy_min=energy_min,
        significance_min=significance_min,
    )


def deposits(*rows):
    event, cell, energy = np.array(rows, dtype=float).reshape(-1, 3).T
    return {"event": event.astype(int), "cell": cell.astype(int), "energy": energy}


def tracks(*rows):
    event, cell, energy, fraction, resolution = np.array(rows, dtype=float).reshape(-1, 5).T
    return {
        "event": event.astype(int),
        "cell": cell.astype(int),
        "energy": energy,
        "fraction": fraction,
        "resolution": resolution,
    }


def run(calorimeter, deposited, pointing, seed=1):
    return energy_flow(calorimeter, deposited, pointing, np.random.default_rng(seed))


# --- cells ---------------------------------------------------------------------------------------------------------


def test_cells_of_a_small_grid():
    calorimeter = perfect()
    eta = np.array([-2.0, -1.5, -1.0, 0.999, 1.0, 2.0, -2.01])
    phi = np.array([-math.pi, 0.1, 3.1, -0.1, math.pi, 0.0, 0.0])
    # A cell owns its lower edges; φ = π belongs to the last column; nothing lies beyond the last edge.
    assert calorimeter.cell_of(eta, phi).tolist() == [0, 2, 7, 9, 15, -1, -1]


def test_random_points_lie_in_their_cells():
    for calorimeter in (ECAL, HCAL):
        cells = np.arange(0, calorimeter.first_cell()[-1], 7)
        eta, phi = calorimeter.random_point(cells, np.random.default_rng(3))
        assert calorimeter.cell_of(eta, phi).tolist() == cells.tolist()


@pytest.mark.parametrize(
    ("calorimeter", "eta", "width", "columns"),
    [
        (ECAL, 0.01, 0.0174, 360),
        (ECAL, -2.95, 0.0174, 360),
        (ECAL, 3.2, 0.175, 36),
        (ECAL, 4.9, 0.3, 36),
        (HCAL, 0.01, 0.087, 72),
        (HCAL, -1.64, 0.087, 72),
        (HCAL, 1.7, 0.087, 36),
        (HCAL, 4.5, 0.175, 36),
        (HCAL, -4.6, 0.175, 18),
    ],
)
def test_granularity(calorimeter, eta, width, columns):
    strip = np.searchsorted(calorimeter.eta_edges, eta) - 1
    assert calorimeter.eta_edges[strip + 1] - calorimeter.eta_edges[strip] == pytest.approx(width)
    assert calorimeter.phi_cells[strip] == columns


def test_acceptance_is_symmetric_and_ends_at_5():
    for calorimeter in (ECAL, HCAL):
        assert calorimeter.eta_edges == pytest.approx(-calorimeter.eta_edges[::-1])
        assert calorimeter.eta_edges[-1] == 5.0
        assert np.all(np.diff(calorimeter.eta_edges) > 0)
        assert len(calorimeter.phi_cells) == len(calorimeter.eta_edges) - 1


# --- resolution ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("eta", "expected"),
    [
        (0.0, math.sqrt(0.008**2 * 2500 + 0.11**2 * 50 + 0.16)),
        (1.5, (1 + 0.64 * 2.25) * math.sqrt(0.008**2 * 2500 + 0.11**2 * 50 + 0.16)),
        (-2.0, 2.16 * math.sqrt(0.008**2 * 2500 + 0.11**2 * 50 + 0.16)),
        (2.4, (2.16 + 5.6 * 0.16) * math.sqrt(0.008**2 * 2500 + 0.11**2 * 50 + 0.16)),
        (2.6, math.sqrt(0.107**2 * 2500 + 2.08**2 * 50)),
    ],
)
def test_ecal_resolution(eta, expected):
    assert ecal_resolution(np.array([eta]), np.array([50.0]))[0] == pytest.approx(expected)


def test_hcal_resolution():
    sigma = hcal_resolution(np.array([-1.0, 3.0, 3.1]), np.full(3, 100.0))
    central, forward = math.sqrt(25 + 225), math.sqrt(169 + 729)
    assert sigma == pytest.approx([central, central, forward])


def test_measured_energy_has_the_right_mean_and_width():
    n = 100_000
    energy, sigma = measure(ECAL, np.full(n, ECAL.cell_of(np.zeros(1), np.zeros(1))[0]), np.full(n, 50.0), rng())
    expected = ecal_resolution(np.array([0.0087]), np.array([50.0]))[0]
    assert energy.mean() == pytest.approx(50.0, abs=5 * expected / math.sqrt(n))
    assert energy.std() == pytest.approx(expected, rel=0.02)
    assert sigma.mean() == pytest.approx(expected, rel=0.01)


def rng():
    return np.random.default_rng(1)


def test_cells_below_threshold_are_zero():
    energy, _ = measure(perfect(energy_min=0.5), np.array([0, 1]), np.array([0.49, 0.51]), rng())
    assert energy == pytest.approx([0.0, 0.51], abs=1e-4)
    insignificant, _ = measure(perfect(sigma=0.3, significance_min=20.0), np.array([0]), np.array([5.0]), rng())
    assert insignificant.tolist() == [0.0]


# --- energy flow ---------------------------------------------------------------------------------------------------


def test_a_cell_without_track_is_a_neutral_object():
    neutrals, scale = run(perfect(), deposits((0, 5, 10.0), (0, 5, 2.0), (3, 5, 7.0)), tracks())
    assert neutrals["energy"] == pytest.approx([12.0, 7.0], abs=1e-4)
    assert neutrals["event"].tolist() == [0, 3]
    assert perfect().cell_of(neutrals["eta"], neutrals["phi"]).tolist() == [5, 5]
    assert len(scale) == 0


def test_excess_over_the_tracks_is_neutral_and_leaves_them_alone():
    neutrals, scale = run(perfect(), deposits((0, 5, 10.0), (0, 5, 4.0)), tracks((0, 5, 10.0, 1.0, 0.01)))
    assert neutrals["energy"] == pytest.approx([4.0], abs=1e-4)
    assert scale.tolist() == [1.0]


def test_a_track_is_rescaled_to_the_weighted_mean():
    # Track 10 ± 1, calorimeter 9 ± 0.5: no excess, mean (10/1 + 9/0.25) / (1 + 4) = 9.2.
    calorimeter = perfect(sigma=1e-9)
    calorimeter = Calorimeter(
        calorimeter.eta_edges,
        calorimeter.phi_cells,
        # Smeared with the width at the true energy, 9; judged by the width at the measured one.
        resolution=sequence([1e-9], [0.5], [2.0]),
        energy_min=0.5,
        significance_min=2.0,
    )
    neutrals, scale = run(calorimeter, deposits((0, 5, 9.0)), tracks((0, 5, 10.0, 1.0, 0.1)))
    assert len(neutrals["energy"]) == 0
    assert scale == pytest.approx([0.92])


def sequence(*values):
    """A resolution that returns these values, one for each call."""
    left = [np.array(value) for value in values]
    return lambda eta, energy: left.pop(0)


def test_an_insignificant_excess_belongs_to_the_track():
    # 10.6 in the cell, 10 ± 1 by the track: .6 is above the threshold, but only .6 standard deviations.
    neutrals, scale = run(perfect(), deposits((0, 5, 10.6)), tracks((0, 5, 10.0, 1.0, 0.1)))
    assert len(neutrals["energy"]) == 0
    assert scale == pytest.approx([1.06], abs=1e-4)


def test_only_the_expected_share_of_a_track_counts_in_a_cell():
    neutrals, _ = run(perfect(), deposits((0, 5, 3.0)), tracks((0, 5, 10.0, 0.3, 0.001)))
    assert len(neutrals["energy"]) == 0


def test_tracks_that_leave_nothing_here_keep_their_momentum():
    pointing = tracks((0, 5, 10.0, 0.0, 0.1), (0, -1, 10.0, 1.0, 0.1))
    neutrals, scale = run(perfect(), deposits((0, 5, 4.0)), pointing)
    assert scale.tolist() == [1.0, 1.0]
    assert neutrals["energy"] == pytest.approx([4.0], abs=1e-4)


def test_tracks_and_cells_of_different_events_do_not_mix():
    neutrals, scale = run(perfect(), deposits((0, 5, 4.0), (1, 5, 10.0)), tracks((1, 5, 10.0, 1.0, 0.01)))
    assert neutrals["event"].tolist() == [0]
    assert scale == pytest.approx([1.0], abs=1e-4)


def test_energy_is_conserved_within_resolution():
    rng = np.random.default_rng(4)
    n = 20_000
    cells = rng.integers(0, HCAL.first_cell()[-1], n)
    energy = rng.uniform(20, 200, n)
    neutrals, _ = run(HCAL, {"event": np.arange(n), "cell": cells, "energy": energy}, tracks())
    assert neutrals["energy"].sum() == pytest.approx(energy.sum(), rel=0.02)


def test_neutral_energy_beyond_the_acceptance_is_lost():
    neutrals, _ = run(perfect(), deposits((0, -1, 100.0)), tracks())
    assert len(neutrals["energy"]) == 0
