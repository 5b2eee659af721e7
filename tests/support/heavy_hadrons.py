"""Heavy hadrons that fly along x."""

from __future__ import annotations

import numpy as np


def hadrons(*rows):
    """Rows of pdg, charge, px, mass; all fly along x."""
    pdg, charge, px, mass = np.array(rows, dtype=float).reshape(-1, 4).T
    same = {name: np.zeros(len(px)) for name in ("py", "pz", "x", "y", "z")}
    own = {"event": np.zeros(len(px), int), "charge": charge, "px": px, "energy": np.hypot(px, mass)}
    return {"pdg": pdg.astype(int), **same, **own}
