"""Particles in sequence order, expanded and scaled in one pass: what :mod:`toposieve.physics.features` says, fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.physics.compiled import dividing_kernel, kernel
from toposieve.physics.elementary import circular, hyperbolic
from toposieve.physics.events import FloatArray, IntArray

ENERGY, PX, PY, PZ, PT, ETA, PHI, VTX_X, VTX_Y, VTX_Z, ISO_CHARGED, ISO_PHOTON, ISO_NEUTRAL, CHARGE = (
    schema.LOW_LEVEL_FEATURES.index(name)
    for name in ("Energy", "Px", "Py", "Pz", *schema.STORED_PARTICLE_FEATURES, "Charge")
)
FLAGS = schema.LOW_LEVEL_FEATURES.index(schema.PARTICLE_KINDS[0])
assert schema.LOW_LEVEL_FEATURES[FLAGS:CHARGE] == schema.PARTICLE_KINDS

ROWS = 8
"""Particles scaled at a time: a loop over the features of one would be too short to be done side by side."""


def scaled_features(
    records: NDArray[Any], order: IntArray, offset: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """``((low_level_features(particles) - offset) / scale)[order]`` in one pass; best within a processor's cache.

    Before scaling, float32 numbers are the same or neighbours.

    Args:
        records: Particles with fields of ``schema.STORED_PARTICLE_FEATURES`` (GeV, mm, rad), ``kind`` and ``Charge``.
        order: Positions in them, (n,).
        offset: (19,); 0 for flags and charge, which stay as they are.
        scale: (19,)

    Returns:
        (n, 19)
    """
    features = np.empty((len(order), len(schema.LOW_LEVEL_FEATURES)), np.float32)
    eta, phi = (records[name][order].astype(np.float64) for name in ("Eta", "Phi"))
    functions = np.empty((4, len(order)))
    hyperbolic(eta, *functions[:2])
    circular(phi, *functions[2:])
    _fill(features, records, order, functions)
    _scale(features.reshape(-1), np.tile(offset, ROWS), np.tile(scale, ROWS))
    return features


@kernel
def _fill(features: NDArray[np.float32], records: NDArray[Any], order: IntArray, functions: FloatArray) -> None:
    cosh, sinh, cos, sin = functions
    for i in range(len(order)):
        particle, row = records[order[i]], features[i]
        pt = np.float64(particle.Pt)
        row[ENERGY], row[PX], row[PY], row[PZ] = pt * cosh[i], pt * cos[i], pt * sin[i], pt * sinh[i]
        row[PT], row[ETA], row[PHI] = particle.Pt, particle.Eta, particle.Phi
        row[VTX_X], row[VTX_Y], row[VTX_Z] = particle.vtxX, particle.vtxY, particle.vtxZ
        row[ISO_CHARGED], row[ISO_PHOTON] = particle.ChPFIso, particle.GammaPFIso
        row[ISO_NEUTRAL], row[CHARGE] = particle.NeuPFIso, particle.Charge
        for j in range(FLAGS, CHARGE):  # as a slice it would take more than all the rest
            row[j] = 0
        row[FLAGS + particle.kind] = 1


@dividing_kernel
def _scale(values: NDArray[np.float32], offset: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
    for start in range(0, len(values), len(offset)):
        part = values[start : start + len(offset)]
        for k in range(len(part)):
            part[k] = (part[k] - offset[k]) / scale[k]
