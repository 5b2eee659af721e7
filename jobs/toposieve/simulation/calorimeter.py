"""Calorimeters: cells, resolutions, and the energy flow that combines them with tracks.

Numbers and method follow the CMS card of Delphes 3.5 (SimpleCalorimeter). GeV and radians.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toposieve.simulation.columns import Columns, take
from toposieve.simulation.kinematics import Array, smear_lognormal

NEGLIGIBLE = 1e-9
"""Energies (GeV) and fractions below this are no deposit."""


@dataclass(frozen=True)
class Calorimeter:
    """Cells and response.

    Attributes:
        eta_edges: Edges of the strips in η, ascending, (strips + 1,).
        phi_cells: Cells around each strip, (strips,).
        resolution: Energy resolution σ(η, E), GeV.
        energy_min: Cells and neutral excesses below this are zero.
        significance_min: Likewise below so many standard deviations.
    """

    eta_edges: Array
    phi_cells: NDArray[np.int64]
    resolution: Callable[[Array, Array], Array]
    energy_min: float
    significance_min: float

    def first_cell(self) -> NDArray[np.int64]:
        """Number of the first cell of each strip, then the number of all cells. (strips + 1,)."""
        return np.concatenate([[0], np.cumsum(self.phi_cells)])

    def cell_of(self, eta: Array, phi: Array) -> NDArray[np.int64]:
        """Number of the cell in each direction, -1 outside of the acceptance."""
        strip = np.searchsorted(self.eta_edges, eta, side="right") - 1
        inside = (strip >= 0) & (strip < len(self.phi_cells))
        strip = np.where(inside, strip, 0)
        cells = self.phi_cells[strip]
        column = np.minimum(((phi + np.pi) / (2 * np.pi) * cells).astype(np.int64), cells - 1)
        return np.where(inside, self.first_cell()[strip] + column, -1)

    def strip_of(self, cell: NDArray[np.int64]) -> NDArray[np.int64]:
        """The strip that each cell is in."""
        return np.searchsorted(self.first_cell(), cell, side="right") - 1

    def random_point(self, cell: NDArray[np.int64], rng: np.random.Generator) -> tuple[Array, Array]:
        """A random direction (η, φ) inside of each cell."""
        strip = self.strip_of(cell)
        eta = rng.uniform(self.eta_edges[strip], self.eta_edges[strip + 1])
        column = cell - self.first_cell()[strip]
        return eta, (column + rng.random(len(cell))) * (2 * np.pi / self.phi_cells[strip]) - np.pi


def energy_flow(
    calorimeter: Calorimeter, deposits: Columns, tracks: Columns, rng: np.random.Generator
) -> tuple[Columns, Array]:
    """Compare measured cells with the tracks that point to them.

    A cell with significantly more energy than its tracks holds a neutral object with the excess. Otherwise its tracks
    are rescaled to the weighted mean of both measurements.

    Args:
        calorimeter: Cells and response.
        deposits: True particles: event, cell, energy (share deposited here, GeV).
        tracks: Tracks: event, cell, energy (GeV), fraction (expected share of it), resolution (relative).
        rng: Smears the cells.

    Returns:
        Neutral objects (event, energy, eta, phi), and the scale factor of each track.
    """
    deposits = take(deposits, (deposits["cell"] >= 0) & (deposits["energy"] > NEGLIGIBLE))
    pointing = np.flatnonzero((tracks["cell"] >= 0) & (tracks["fraction"] > NEGLIGIBLE))
    shares = take(tracks, pointing)
    n_deposits, n_cells = len(deposits["cell"]), calorimeter.first_cell()[-1]
    keys = np.concatenate([columns["event"] * n_cells + columns["cell"] for columns in (deposits, shares)])
    towers, tower_of = np.unique(keys, return_inverse=True)
    deposit_tower, track_tower = tower_of[:n_deposits], tower_of[n_deposits:]
    cell = towers % n_cells

    energy, sigma = measure(calorimeter, cell, np.bincount(deposit_tower, deposits["energy"], len(towers)), rng)
    track_energy = np.bincount(track_tower, shares["energy"] * shares["fraction"], len(towers))
    track_sigma = _track_uncertainty(calorimeter, cell, shares, track_tower)

    excess = np.maximum(energy - track_energy, 0.0)
    is_neutral = (excess > calorimeter.energy_min) & (
        excess > calorimeter.significance_min * np.hypot(track_sigma, sigma)
    )
    scale = np.ones(len(tracks["cell"]))
    scale[pointing] = np.where(is_neutral, 1.0, _rescaling(energy, sigma, track_energy, track_sigma))[track_tower]
    eta, phi = calorimeter.random_point(cell[is_neutral], rng)
    neutrals = {"event": towers[is_neutral] // n_cells, "energy": excess[is_neutral], "eta": eta, "phi": phi}
    return neutrals, scale


def measure(
    calorimeter: Calorimeter, cell: NDArray[np.int64], true_energy: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Measured energy of cells, 0 below threshold, and its uncertainty (GeV)."""
    eta = _centre(calorimeter, cell)
    energy = smear_lognormal(true_energy, calorimeter.resolution(eta, true_energy), rng)
    sigma = calorimeter.resolution(eta, energy)
    seen = (energy >= calorimeter.energy_min) & (energy >= calorimeter.significance_min * sigma)
    return np.where(seen, energy, 0.0), sigma


def _centre(calorimeter: Calorimeter, cell: NDArray[np.int64]) -> Array:
    strip = calorimeter.strip_of(cell)
    return 0.5 * (calorimeter.eta_edges[strip] + calorimeter.eta_edges[strip + 1])


def _track_uncertainty(
    calorimeter: Calorimeter, cell: NDArray[np.int64], tracks: Columns, tower: NDArray[np.int64]
) -> Array:
    # Where the calorimeter would measure better than the track, only the share expected here counts.
    by_calorimeter = calorimeter.resolution(_centre(calorimeter, cell)[tower], tracks["energy"])
    calorimeter_wins = by_calorimeter < tracks["resolution"] * tracks["energy"]
    energy = np.where(calorimeter_wins, tracks["energy"] * tracks["fraction"], tracks["energy"])
    return np.sqrt(np.bincount(tower, (tracks["resolution"] * energy) ** 2, len(cell)))


def _rescaling(energy: Array, sigma: Array, track_energy: Array, track_sigma: Array) -> Array:
    """Weighted mean of the two measurements of a tower, relative to that of its tracks; 1 without tracks."""
    track_weight = 1.0 / np.maximum(track_sigma, NEGLIGIBLE) ** 2
    weight = np.where(sigma > 0, 1.0 / np.maximum(sigma, NEGLIGIBLE) ** 2, 0.0)
    mean = (track_weight * track_energy + weight * energy) / (track_weight + weight)
    return np.where(track_energy > 0, mean / np.maximum(track_energy, NEGLIGIBLE), 1.0)


def ecal_resolution(eta: Array, energy: Array) -> Array:
    """σ(E) of the electromagnetic calorimeter, GeV; beyond |η| = 2.5 that of the forward calorimeter."""
    distance = np.abs(eta)
    central = np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.40**2)
    factor = np.where(distance <= 1.5, 1 + 0.64 * distance**2, 2.16 + 5.6 * (distance - 2) ** 2)
    forward = np.sqrt((0.107 * energy) ** 2 + 2.08**2 * energy)
    return np.where(distance <= 2.5, factor * central, forward)


def hcal_resolution(eta: Array, energy: Array) -> Array:
    """σ(E) of the hadronic calorimeter, GeV."""
    central = np.sqrt((0.050 * energy) ** 2 + 1.50**2 * energy)
    forward = np.sqrt((0.130 * energy) ** 2 + 2.70**2 * energy)
    return np.where(np.abs(eta) <= 3.0, central, forward)


def _strips(positive_edges: Array, cells_up_to: tuple[tuple[float, int], ...]) -> tuple[Array, NDArray[np.int64]]:
    edges = np.concatenate([-positive_edges[::-1], positive_edges[positive_edges > 0]])
    centres = np.abs(edges[1:] + edges[:-1]) / 2
    limits = [limit for limit, _ in cells_up_to]
    counts = np.array([cells for _, cells in cells_up_to])
    return edges, counts[np.searchsorted(limits, centres)]


_FORWARD = np.array([3.125, 3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0])
_HCAL_CENTRAL = np.array([*(0.087 * np.arange(20)), 1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95])

ECAL = Calorimeter(
    # Cells of 0.0174 × 1° to |η| = 2.958, then 10° in φ.
    *_strips(np.concatenate([0.0174 * np.arange(171), _FORWARD]), ((2.96, 360), (5.0, 36))),
    resolution=ecal_resolution,
    energy_min=0.5,
    significance_min=2.0,
)
HCAL = Calorimeter(
    # Cells of 5° in φ to |η| = 1.653, 10° to 4.525, 20° to 5.
    *_strips(np.concatenate([_HCAL_CENTRAL, _FORWARD]), ((1.653, 72), (4.525, 36), (5.0, 18))),
    resolution=hcal_resolution,
    energy_min=1.0,
    significance_min=1.0,
)
