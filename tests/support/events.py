"""Constructed edge cases and seeded random events, as dictionaries collection → leaf → list.

Every value is representable in the type of its leaf, so that an event is the same in memory, in ROOT and in Parquet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from support.reference import Event
from toposieve import schema
from toposieve.physics.events import Events, Jagged

PI = float(np.float32(math.pi))
Row = dict[str, float]


def f32(value: float) -> float:
    """The nearest float32."""
    return float(np.float32(value))


def above(value: float) -> float:
    """The next float32 above."""
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))


def below(value: float) -> float:
    """The next float32 below."""
    return float(np.nextafter(np.float32(value), np.float32(-np.inf)))


# --- building events -------------------------------------------------------------------------------------------


def track(pt: float, eta: float, phi: float, charge: int = 1, x: float = 0, y: float = 0, z: float = 0) -> Row:
    return {"PT": pt, "Eta": eta, "Phi": phi, "Charge": charge, "X": x, "Y": y, "Z": z}


def tower(et: float, eta: float, phi: float) -> Row:
    """A photon or neutral hadron."""
    return {"ET": et, "Eta": eta, "Phi": phi}


def lepton(pt: float, eta: float, phi: float, charge: int = 1) -> Row:
    return {"PT": pt, "Eta": eta, "Phi": phi, "Charge": charge}


def jet(pt: float, eta: float, phi: float, btag: int = 0) -> Row:
    return {"PT": pt, "Eta": eta, "Phi": phi, "BTag": btag}


def make_event(
    *,
    tracks: Iterable[Row] = (),
    photons: Iterable[Row] = (),
    neutrals: Iterable[Row] = (),
    electrons: Iterable[Row] = (),
    muons: Iterable[Row] = (),
    jets: Iterable[Row] = (),
    met: float = 40.0,
    met_phi: float = 1.0,
) -> Event:
    """An event of the given objects; values are rounded to the leaves' types."""
    rows = {
        "EFlowTrack": tracks,
        "EFlowPhoton": photons,
        "EFlowNeutralHadron": neutrals,
        "Electron": electrons,
        schema.MUON: muons,
        "Jet": jets,
        "MissingET": [{"MET": met, "Phi": met_phi}],
    }
    return {collection: _columns(collection, list(objects)) for collection, objects in rows.items()}


def _columns(collection: str, rows: Sequence[Row]) -> dict[str, list[float]]:
    return {
        leaf: np.array([row[leaf] for row in rows], dtype).tolist()
        for leaf, dtype in schema.DELPHES_LEAVES[collection].items()
    }


def to_events(events: Sequence[Event]) -> Events:
    """Flat arrays of some events."""
    return {collection: _to_jagged(collection, events) for collection in schema.DELPHES_LEAVES}


def _to_jagged(collection: str, events: Sequence[Event]) -> Jagged:
    leaves = schema.DELPHES_LEAVES[collection]
    first = next(iter(leaves))
    offsets = np.cumsum([0, *(len(event[collection][first]) for event in events)], dtype=np.int64)
    return Jagged(
        offsets,
        {
            leaf: np.array([value for event in events for value in event[collection][leaf]], dtype)
            for leaf, dtype in leaves.items()
        },
    )


def from_events(events: Events, position: int) -> Event:
    """One event of flat arrays, as a dictionary of lists."""
    return {
        collection: {
            leaf: values[jagged.offsets[position] : jagged.offsets[position + 1]].tolist()
            for leaf, values in jagged.leaves.items()
        }
        for collection, jagged in events.items()
    }


# --- edge cases ------------------------------------------------------------------------------------------------

ELECTRON = lepton(40, 0.5, 1.0, -1)
MUON = lepton(40, 0.5, 1.0, +1)


def _caps() -> Event:
    """More of everything than there are rows, PT rising through the file, several at each PT."""
    return make_event(
        muons=[lepton(200, 0, 0)],
        tracks=[track(0.6 + i // 3 * 0.25, -2 + i * 0.008, 2 + i * 0.002) for i in range(500)],
        photons=[tower(1.1 + i // 3 * 0.25, -2 + i * 0.016, 2.5 + i * 0.001) for i in range(180)],
        neutrals=[tower(1.1 + i // 3 * 0.25, 2 - i * 0.016, -2 - i * 0.001) for i in range(240)],
    )


def _two_thousand_particles() -> Event:
    rng = np.random.default_rng(2000)
    return make_event(
        electrons=[lepton(5000, 0.1, 0.2)],
        tracks=[track(5000, 0.1, 0.2, 1, 0.1, 0.2, 3), *_random_tracks(rng, 1199)],
        photons=_random_towers(rng, 400),
        neutrals=_random_towers(rng, 400),
        jets=[jet(31 + i, 0.1 * i, -2) for i in range(20)],
    )


_EDGE_CASES: dict[str, Callable[[], Event]] = {
    # Empty collections.
    "nothing": lambda: make_event(met=0),
    "lepton alone": lambda: make_event(electrons=[ELECTRON]),
    "no jets": lambda: make_event(
        electrons=[ELECTRON], tracks=[track(3, 0, 0)], photons=[tower(3, 0, 0)], neutrals=[tower(3, 0, 0)]
    ),
    "no tracks": lambda: make_event(
        muons=[MUON], photons=[tower(3, 0.4, 1)], neutrals=[tower(3, 0, 0)], jets=[jet(50, 0, 0)]
    ),
    "no photons": lambda: make_event(
        muons=[MUON], tracks=[track(3, 0.4, 1)], neutrals=[tower(3, 0, 0)], jets=[jet(50, 0, 0)]
    ),
    "no neutral hadrons": lambda: make_event(
        muons=[MUON], tracks=[track(3, 0.4, 1)], photons=[tower(3, 0, 0)], jets=[jet(50, 0, 0)]
    ),
    "no lepton": lambda: make_event(tracks=[track(40, 0, 0)], jets=[jet(50, 0, 0)]),
    # Strict thresholds.
    "lepton PT at the cut": lambda: make_event(electrons=[lepton(23, 0, 0)], muons=[lepton(23, 1, 1)]),
    "lepton PT above the cut": lambda: make_event(electrons=[lepton(above(23), 0, 0)]),
    "lepton at any eta": lambda: make_event(electrons=[lepton(30, 3.5, 0)]),
    "objects at their cuts": lambda: make_event(
        muons=[MUON],
        tracks=[track(0.5, 0.5, 1.1), track(above(0.5), 0.5, 1.1)],
        photons=[tower(1, 0.5, 1.1), tower(above(1), 0.5, 1.1)],
        neutrals=[tower(1, 0.5, 1.1), tower(above(1), 0.5, 1.1)],
    ),
    "isolation at the cut": lambda: make_event(muons=[MUON], photons=[tower(18, 0.5, 1.1)]),  # 18 / 40 = .45
    "isolation below the cut": lambda: make_event(muons=[MUON], photons=[tower(below(18), 0.5, 1.1)]),
    "isolation sums three species": lambda: make_event(
        muons=[MUON], tracks=[track(7, 0.5, 1.1)], photons=[tower(7, 0.5, 1.1)], neutrals=[tower(7, 0.5, 1.1)]
    ),
    "cone edge": lambda: make_event(
        muons=[lepton(40, 0, 0)],
        tracks=[
            track(5, below(f32(0.3)), 0),
            track(7, f32(0.3), 0),
            track(9, 0, below(f32(0.3))),
            track(11, 0, f32(0.3)),
        ],
        photons=[tower(2, -below(f32(0.3)), 0), tower(3, -f32(0.3), 0)],
    ),
    "zero PT tracks": lambda: make_event(
        muons=[MUON], tracks=[track(0, 999.9, 0), track(2, 0.4, 1), track(0, -999.9, 1), track(0, 0.5, 1)]
    ),
    # Δφ wrap.
    "wrap around the lepton": lambda: make_event(
        muons=[lepton(40, 0, 3.1)], tracks=[track(30, 0, -3.1), track(3, 0, 3.0)], met_phi=-3.1
    ),
    "wrap between particles": lambda: make_event(
        muons=[lepton(40, 0, 0)],
        tracks=[track(4, 1, 3.1), track(3, 1, -3.1), track(2, 1, PI), track(1, 1, -PI)],
        photons=[tower(4, 1.1, 3.05), tower(5, 1.1, -3.05)],
        neutrals=[tower(6, 1.1, -PI), tower(7, 1.1, PI)],
    ),
    "lepton at pi": lambda: make_event(
        electrons=[lepton(40, 0, PI)],
        tracks=[track(40, 0, -PI, x=1), track(2, 0, 0)],
        jets=[jet(60, 0, -3.0)],
        met_phi=-PI,
    ),
    # Own tracks.
    "own tracks": lambda: make_event(
        electrons=[ELECTRON],
        tracks=[
            track(0.4, 0.5, 1.0, x=1, y=2, z=3),  # below the cut: dropped before anything else
            track(0.7, 0.5, 1.0, x=4, y=5, z=6),  # the first kept one gives the vertex
            track(39, 0.5, 1.0, x=7, y=8, z=9),
            track(2, 0.6, 1.0, x=10, y=11, z=12),
        ],
        photons=[tower(3, 0.6, 1.0)],
    ),
    "own track edge": lambda: make_event(
        electrons=[lepton(40, 0, 0)],
        tracks=[track(20, f32(1e-4), 0, x=1), track(3, above(f32(1e-4)), 0, x=2)],  # f32(1e-4) is just below 1e-4
    ),
    "own track beyond the edge": lambda: make_event(
        electrons=[lepton(40, 0, 0)], tracks=[track(39, above(f32(1e-4)), 0, x=2)]
    ),
    "own tracks do not use up rows": lambda: make_event(
        muons=[lepton(300, 0, 0)],
        tracks=[*(track(50, 0, 0) for _ in range(3)), *(track(1 + 0.25 * i, 1, -3 + 0.01 * i) for i in range(451))],
    ),
    "photon on the electron": lambda: make_event(
        electrons=[ELECTRON], tracks=[track(40, 0.5, 1)], photons=[tower(4, 0.5, 1)], neutrals=[tower(5, 0.5, 1)]
    ),
    # Flags.
    "tracks of leptons below the cut": lambda: make_event(
        muons=[MUON, lepton(3, -1, 2)],
        electrons=[lepton(5, 1, -1)],
        tracks=[track(5, 1, -1, -1), track(3, -1, 2, 1), track(3, -1.1, 2, 1)],
    ),
    "track between electron and muon": lambda: make_event(
        muons=[MUON, lepton(5, 1, f32(2e-5)), lepton(5, -1, 0)],
        electrons=[lepton(5, 1, f32(6e-5)), lepton(5, -1, 0), lepton(5, 2, f32(2e-5))],
        tracks=[track(5, 1, 0), track(4, -1, 0), track(3, 2, 0), track(2, 2, 1)],
    ),
    "flag edge": lambda: make_event(
        muons=[MUON, lepton(5, 0, 0)], tracks=[track(3, f32(1e-4), 0), track(2, above(f32(1e-4)), 0)]
    ),
    "charges": lambda: make_event(
        muons=[lepton(40, 0.5, 1, -1)],
        tracks=[track(40, 0.5, 1, 1), track(4, 1, 1, -1), track(3, 1, 2, 2), track(2, 1, 3, -999)],
    ),
    # Jets.
    "jet cuts": lambda: make_event(
        muons=[MUON],
        jets=[
            jet(30, 2, -2),
            jet(above(30), 2, -2),
            jet(50, f32(2.6), -2),
            jet(50, below(f32(2.6)), -2),
            jet(60, -3, 1),
        ],
    ),
    "overlapping jets": lambda: make_event(
        electrons=[lepton(40, 0, 0)],
        jets=[jet(45, 0, 0, 1), jet(35, below(f32(0.4)), 0, 1), jet(37, f32(0.4), 0, 1), jet(39, 0, -0.5, 0)],
    ),
    "overlapping jet across pi": lambda: make_event(
        electrons=[lepton(40, 0, 3.1)], jets=[jet(45, 0, -3.1, 1), jet(50, 0, 0, 1)]
    ),
    "b-tag bits": lambda: make_event(
        muons=[MUON],
        jets=[jet(50, 0, -1, 0), jet(51, 0, -2, 1), jet(52, 1, -1, 2), jet(53, 1, -2, 7), jet(54, 2, -2, 2**31)],
    ),
    # Several leptons.
    "two leptons, muon harder": lambda: make_event(
        electrons=[lepton(30, 2, 1, -1)],
        muons=[lepton(50, -1, -1, 1)],
        tracks=[track(30, 2, 1, -1), track(50, -1, -1, 1)],
    ),
    "two leptons, equal PT": lambda: make_event(electrons=[lepton(30, -2, 1, -1)], muons=[lepton(30, 1, -1, 1)]),
    "two electrons, equal PT": lambda: make_event(electrons=[lepton(30, 0, 1, -1), lepton(30, 1, -1, 1)]),
    "harder lepton not isolated": lambda: make_event(
        electrons=[lepton(80, 0, 0), lepton(30, 1, 2)], muons=[lepton(50, -1, -1)], tracks=[track(60, 0, 0.1)]
    ),
    "no lepton isolated": lambda: make_event(
        electrons=[lepton(80, 0, 0)], muons=[lepton(50, -1, -1)], tracks=[track(60, 0, 0.1), track(40, -1, -1.1)]
    ),
    "lepton's track counts for another lepton": lambda: make_event(
        electrons=[lepton(40, 0, 0)], muons=[lepton(30, 0.1, 0)], tracks=[track(40, 0, 0), track(2, 0.1, 0)]
    ),
    # Order and caps.
    "equal PT": lambda: make_event(
        muons=[MUON],
        tracks=[track(2, 1, 0.1 * i, x=i) for i in range(9)] + [track(3, -1, 0.1 * i, x=10 + i) for i in range(9)],
        photons=[tower(2, 1, 0.2 * i) for i in range(9)],
        neutrals=[tower(2, 1, 0.3 * i) for i in range(9)],
    ),
    "equal distance": lambda: make_event(
        muons=[lepton(40, 0, 0)],
        tracks=[track(3, 1, 0), track(4, -1, 0), track(3.5, 0, 1), track(3, 0, -1)],
        photons=[tower(3, 1, 0), tower(3, 0, 0)],
        neutrals=[tower(2, 0, 0), tower(3, 0, 1)],
    ),
    "caps": _caps,
    "2,000 particles": _two_thousand_particles,
}


def edge_cases() -> dict[str, Event]:
    """Name → event, for each rule of the selection and the features."""
    return {name: build() for name, build in _EDGE_CASES.items()}


# --- random events ---------------------------------------------------------------------------------------------


def random_events(seed: int, n: int, particles: int = 80) -> list[Event]:
    """Events with about so many particles, most of them with a lepton, about half isolated."""
    rng = np.random.default_rng(seed)
    return [_random_event(rng, particles) for _ in range(n)]


def _random_event(rng: np.random.Generator, particles: int) -> Event:
    electrons, muons = (_random_leptons(rng, int(rng.choice(3, p=(0.45, 0.4, 0.15)))) for _ in range(2))
    tracks = _random_tracks(rng, int(rng.poisson(0.5 * particles)))
    for row in [*electrons, *muons]:
        if rng.random() < 0.9:
            own = track(
                f32(row["PT"] * rng.normal(1, 0.02)), row["Eta"], row["Phi"], int(row["Charge"]), *rng.normal(0, 1, 3)
            )
            tracks.insert(int(rng.integers(len(tracks) + 1)), own)
        if rng.random() < 0.5:
            tracks.append(track(row["PT"] * rng.uniform(0, 0.8), *_near(rng, row)))
    leptons = [*electrons, *muons]
    photons = _random_towers(rng, int(rng.poisson(0.3 * particles)))
    photons += [tower(rng.uniform(0.5, 5), *_near(rng, row)) for row in leptons]
    jets = [
        jet(rng.exponential(30) + 20, rng.uniform(-3, 3), rng.uniform(-3.14, 3.14), int(rng.integers(4)))
        for _ in range(4)
    ]
    jets += [jet(row["PT"] * 1.1, *_near(rng, row)) for row in leptons]
    return make_event(
        electrons=electrons,
        muons=muons,
        tracks=tracks,
        photons=photons,
        neutrals=_random_towers(rng, int(rng.poisson(0.2 * particles))),
        jets=jets,
        met=rng.exponential(40),
        met_phi=rng.uniform(-3.14, 3.14),
    )


def _near(rng: np.random.Generator, row: Row) -> tuple[float, float]:
    """A direction within ΔR of about .5, azimuth in [-π, π]."""
    phi = row["Phi"] + rng.normal(0, 0.2)
    return row["Eta"] + rng.normal(0, 0.2), math.remainder(phi, 2 * math.pi)


def _random_leptons(rng: np.random.Generator, n: int) -> list[Row]:
    charges = rng.choice((-1, 1), n)
    return [
        lepton(f32(15 + rng.exponential(25)), f32(rng.uniform(-2.5, 2.5)), f32(rng.uniform(-3.14, 3.14)), int(charge))
        for charge in charges
    ]


def _random_tracks(rng: np.random.Generator, n: int) -> list[Row]:
    """Tracks with a tenth of them at PT of few values, so that there are ties."""
    pts = np.where(rng.random(n) < 0.1, rng.integers(1, 5, n), 0.3 + rng.exponential(1.5, n))
    return [
        track(pt, eta, phi, int(charge), *vertex)
        for pt, eta, phi, charge, vertex in zip(
            pts,
            rng.uniform(-2.5, 2.5, n),
            rng.uniform(-3.14, 3.14, n),
            rng.choice((-1, 1), n),
            rng.normal(0, (0.1, 0.1, 50), (n, 3)),
            strict=True,
        )
    ]


def _random_towers(rng: np.random.Generator, n: int) -> list[Row]:
    return [
        tower(et, eta, phi)
        for et, eta, phi in zip(
            0.8 + rng.exponential(1.5, n), rng.uniform(-4.9, 4.9, n), rng.uniform(-3.14, 3.14, n), strict=True
        )
    ]
