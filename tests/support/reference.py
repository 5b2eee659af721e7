"""Selection and features once more, in the most obvious way: one event, one particle, one pair at a time.

Independent of ``toposieve.physics``: shares no code, no constant and no array library with it. An event is a dictionary
collection → leaf → list of values, as in the Delphes file; see :mod:`support.events`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Event = dict[str, dict[str, list[float]]]
Particle = dict[str, float]


@dataclass(frozen=True)
class ReferenceEvent:
    """A selected event."""

    high_level: dict[str, float]
    particles: list[Particle]  # the 19 features by name; the lepton first

    def sequence(self) -> list[Particle]:
        """The particles as sequence models see them: by decreasing ΔR from the lepton, which comes last."""
        lepton, *others = self.particles
        return [*sorted(others, key=lambda particle: -_delta_r_of(particle, lepton)), lepton]


def reference_select(event: Event, config: Any, btag_mask: int) -> ReferenceEvent | None:
    """Select one event and compute its features; None where it fails a cut (:func:`failed_cut` says which)."""
    leptons = _isolated_leptons(event, config)
    if not leptons:
        return None
    lepton = leptons[0]
    for other in leptons[1:]:  # electrons come first, each collection in file order
        if other["Pt"] > lepton["Pt"]:
            lepton = other
    own_tracks = [track for track in _kept_tracks(event, config) if _is_own(track, lepton, config)]
    if own_tracks:
        for name in ("vtxX", "vtxY", "vtxZ"):
            lepton[name] = own_tracks[0][name]
    return ReferenceEvent(_high_level(event, lepton, config, btag_mask), [lepton, *_particles(event, lepton, config)])


def failed_cut(event: Event, config: Any) -> str | None:
    """Name of the first cut that an event fails, None if it passes all."""
    if not _leptons(event, config.lepton_pt_min):
        return "lepton_pt"
    if not _isolated_leptons(event, config):
        return "isolated_lepton"
    return None


def reference_cutflow(events: list[Event], config: Any) -> dict[str, int]:
    """Events after each cut."""
    failed = [failed_cut(event, config) for event in events]
    return {
        "events": len(events),
        "lepton_pt": sum(cut != "lepton_pt" for cut in failed),
        "isolated_lepton": sum(cut is None for cut in failed),
    }


def delta_r(eta1: float, phi1: float, eta2: float, phi2: float) -> float:
    """Distance of two directions."""
    delta_phi = phi1 - phi2
    while delta_phi > math.pi:
        delta_phi -= 2 * math.pi
    while delta_phi < -math.pi:
        delta_phi += 2 * math.pi
    return math.sqrt((eta1 - eta2) ** 2 + delta_phi**2)


def _delta_r_of(one: Particle, other: Particle) -> float:
    return delta_r(one["Eta"], one["Phi"], other["Eta"], other["Phi"])


# --- objects ---------------------------------------------------------------------------------------------------


def _particle(pt: float, eta: float, phi: float, flag: str, charge: float = 0.0) -> Particle:
    particle = {
        "Energy": pt * math.cosh(eta),
        "Px": pt * math.cos(phi),
        "Py": pt * math.sin(phi),
        "Pz": pt * math.sinh(eta),
        "Pt": pt,
        "Eta": eta,
        "Phi": phi,
    }
    for name in ("vtxX", "vtxY", "vtxZ", "ChPFIso", "GammaPFIso", "NeuPFIso"):
        particle[name] = 0.0
    for name in ("isChHad", "isNeuHad", "isGamma", "isEle", "isMu"):
        particle[name] = 1.0 if name == flag else 0.0
    particle["Charge"] = charge
    return particle


def _kept_tracks(event: Event, config: Any) -> list[Particle]:
    tracks = []
    leaves = event["EFlowTrack"]
    for i in range(len(leaves["PT"])):
        if leaves["PT"][i] > config.track_pt_min:
            eta, phi = leaves["Eta"][i], leaves["Phi"][i]
            # The charge's column is one byte wide.
            charge = max(-128, min(127, leaves["Charge"][i]))
            track = _particle(leaves["PT"][i], eta, phi, _track_flag(event, eta, phi, config), charge)
            track["vtxX"], track["vtxY"], track["vtxZ"] = leaves["X"][i], leaves["Y"][i], leaves["Z"][i]
            tracks.append(track)
    return tracks


def _track_flag(event: Event, eta: float, phi: float, config: Any) -> str:
    flag, nearest = "isChHad", math.inf
    for collection, name in (("Electron", "isEle"), ("MuonTight", "isMu")):
        leaves = event[collection]
        for i in range(len(leaves["PT"])):
            distance = delta_r(eta, phi, leaves["Eta"][i], leaves["Phi"][i])
            if distance <= config.own_track_dr and distance < nearest:
                flag, nearest = name, distance
    return flag


def _kept_neutrals(event: Event, collection: str, et_min: float, flag: str) -> list[Particle]:
    leaves = event[collection]
    return [
        _particle(et, eta, phi, flag)
        for et, eta, phi in zip(leaves["ET"], leaves["Eta"], leaves["Phi"], strict=True)
        if et > et_min
    ]


def _kept_photons(event: Event, config: Any) -> list[Particle]:
    return _kept_neutrals(event, "EFlowPhoton", config.photon_et_min, "isGamma")


def _kept_neutral_hadrons(event: Event, config: Any) -> list[Particle]:
    return _kept_neutrals(event, "EFlowNeutralHadron", config.neutral_et_min, "isNeuHad")


def _leptons(event: Event, pt_min: float) -> list[Particle]:
    leptons = []
    for collection, flag in (("Electron", "isEle"), ("MuonTight", "isMu")):
        leaves = event[collection]
        for i in range(len(leaves["PT"])):
            if leaves["PT"][i] > pt_min:
                leptons.append(
                    _particle(leaves["PT"][i], leaves["Eta"][i], leaves["Phi"][i], flag, leaves["Charge"][i])
                )
    return leptons


# --- isolation -------------------------------------------------------------------------------------------------


def _sum_around(particle: Particle, objects: list[Particle], config: Any) -> float:
    """Relative PT sum of the objects in the cone; the particle itself is not among them if it is the same object."""
    total = 0.0
    for other in objects:
        if other is not particle and _delta_r_of(other, particle) < config.isolation_cone:
            total += other["Pt"]
    return total / particle["Pt"]


def _is_own(track: Particle, lepton: Particle, config: Any) -> bool:
    return _delta_r_of(track, lepton) <= config.own_track_dr


def _isolated_leptons(event: Event, config: Any) -> list[Particle]:
    tracks = _kept_tracks(event, config)
    photons, neutrals = _kept_photons(event, config), _kept_neutral_hadrons(event, config)
    isolated = []
    for lepton in _leptons(event, config.lepton_pt_min):
        others = [track for track in tracks if not _is_own(track, lepton, config)]
        lepton["ChPFIso"] = _sum_around(lepton, others, config)
        lepton["GammaPFIso"] = _sum_around(lepton, photons, config)
        lepton["NeuPFIso"] = _sum_around(lepton, neutrals, config)
        if (lepton["ChPFIso"] + lepton["GammaPFIso"]) + lepton["NeuPFIso"] < config.isolation_max:
            isolated.append(lepton)
    return isolated


def _particles(event: Event, lepton: Particle, config: Any) -> list[Particle]:
    tracks = _kept_tracks(event, config)
    photons, neutrals = _kept_photons(event, config), _kept_neutral_hadrons(event, config)
    candidates = [track for track in tracks if not _is_own(track, lepton, config)]
    rows = []
    for group, cap in ((candidates, 450), (photons, 150), (neutrals, 200)):
        rows += sorted(group, key=lambda particle: -particle["Pt"])[:cap]
    for particle in rows:
        particle["ChPFIso"] = _sum_around(particle, tracks, config)
        particle["GammaPFIso"] = _sum_around(particle, photons, config)
        particle["NeuPFIso"] = _sum_around(particle, neutrals, config)
    return rows


# --- high-level features ---------------------------------------------------------------------------------------


def _high_level(event: Event, lepton: Particle, config: Any, btag_mask: int) -> dict[str, float]:
    met, met_phi = event["MissingET"]["MET"][0], event["MissingET"]["Phi"][0]
    jets = []
    leaves = event["Jet"]
    for i in range(len(leaves["PT"])):
        kept = leaves["PT"][i] > config.jet_pt_min and abs(leaves["Eta"][i]) < config.jet_eta_max
        distance = delta_r(leaves["Eta"][i], leaves["Phi"][i], lepton["Eta"], lepton["Phi"])
        if kept and not distance < config.jet_lepton_dr:
            jets.append((leaves["PT"][i], leaves["BTag"][i]))
    return {
        "HT": sum((pt for pt, _ in jets), 0.0),
        "MET": met,
        "phiMET": met_phi,
        "MT": math.sqrt(2 * met * lepton["Pt"] * (1 - math.cos(lepton["Phi"] - met_phi))),
        "nJets": float(len(jets)),
        "nBjets": float(sum(1 for _, btag in jets if int(btag) & btag_mask)),
        "LepPt": lepton["Pt"],
        "LepEta": lepton["Eta"],
        "LepPhi": lepton["Phi"],
        "LepIsoCh": lepton["ChPFIso"],
        "LepIsoGamma": lepton["GammaPFIso"],
        "LepIsoNeu": lepton["NeuPFIso"],
        "LepCharge": float(lepton["Charge"]),
        "LepIsEle": lepton["isEle"],
    }
