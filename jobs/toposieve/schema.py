"""Names, order, units and labels of everything that travels between stages. Standard library only.

Units are GeV, mm and radians throughout. Access features by name through the tuples below, never by a bare index.
"""

from __future__ import annotations

from toposieve.classes import CLASSES

# --- samples -----------------------------------------------------------------------------------------------------

SAMPLES: tuple[str, ...] = tuple(CLASSES)
"""That can be processed. A dataset has some of them as its classes: its manifest says which."""

# --- Delphes input -----------------------------------------------------------------------------------------------

TREE_NAME = "Delphes"

MUON_COLLECTIONS: tuple[str, ...] = ("MuonTight", "Muon", "MuonLoose")
"""Muon branches in order of preference; Delphes cards differ. The first that a file has is its muon branch."""

MUON = MUON_COLLECTIONS[0]
"""The name under which a file's muon branch travels after ingestion, whichever it was in the file."""

DELPHES_LEAVES: dict[str, dict[str, str]] = {
    "EFlowTrack": {
        "PT": "float32",
        "Eta": "float32",
        "Phi": "float32",
        "Charge": "int32",
        "X": "float32",
        "Y": "float32",
        "Z": "float32",
    },
    "EFlowPhoton": {"ET": "float32", "Eta": "float32", "Phi": "float32"},
    "EFlowNeutralHadron": {"ET": "float32", "Eta": "float32", "Phi": "float32"},
    "Electron": {"PT": "float32", "Eta": "float32", "Phi": "float32", "Charge": "int32"},
    MUON: {"PT": "float32", "Eta": "float32", "Phi": "float32", "Charge": "int32"},
    "Jet": {"PT": "float32", "Eta": "float32", "Phi": "float32", "BTag": "uint32"},
    "MissingET": {"MET": "float32", "Phi": "float32"},
}
"""Collection → leaf → type of every leaf an event needs. All jagged; MissingET has length 1."""

WEIGHT_BRANCH = "Event.Weight"
"""Optional branch of the event weight; 1 where missing."""

PILEUP_BRANCH = "Event.PileUp"
"""Optional branch of the number of pile-up interactions that overlay the event."""

OPTIONAL_BRANCHES: dict[str, str] = {WEIGHT_BRANCH: "float32", PILEUP_BRANCH: "int32"}
"""Branch → type of what a file may have beside the leaves it needs, one number an event."""

NO_PILEUP = -1
"""Number of pile-up interactions in arrays where the file does not say; null in files of ours."""

UNWEIGHTED = f"no {WEIGHT_BRANCH}; each event counts 1"
"""Remark about a file without it."""

WEIGHT_LIST_BRANCHES: tuple[str, ...] = ("Weight.Weight", "WeightLHEF.Weight")
"""Branches in which Delphes lists several weights of an event, such as those of other scales."""


def event_column(collection: str, leaf: str) -> str:
    """Name of a leaf's column in the ``events`` Parquet files (Spark cannot address names with dots)."""
    return f"{collection}_{leaf}"


# --- features ----------------------------------------------------------------------------------------------------

LOW_LEVEL_FEATURES: tuple[str, ...] = (
    "Energy",
    "Px",
    "Py",
    "Pz",
    "Pt",
    "Eta",
    "Phi",
    "vtxX",
    "vtxY",
    "vtxZ",
    "ChPFIso",
    "GammaPFIso",
    "NeuPFIso",
    "isChHad",
    "isNeuHad",
    "isGamma",
    "isEle",
    "isMu",
    "Charge",
)
"""Features of one particle, in order."""

PARTICLE_KINDS: tuple[str, ...] = ("isChHad", "isNeuHad", "isGamma", "isEle", "isMu")
"""The mutually exclusive flags. A particle's ``kind`` is the position of its flag in this tuple."""

UNSCALED_FEATURES: tuple[str, ...] = (*PARTICLE_KINDS, "Charge")
"""Low-level features that scaling leaves as they are."""

HIGH_LEVEL_FEATURES: tuple[str, ...] = (
    "HT",
    "MET",
    "phiMET",
    "MT",
    "nJets",
    "nBjets",
    "LepPt",
    "LepEta",
    "LepPhi",
    "LepIsoCh",
    "LepIsoGamma",
    "LepIsoNeu",
    "LepCharge",
    "LepIsEle",
)
"""Features of one event, in order."""

UNITS: dict[str, str] = {
    **dict.fromkeys((*LOW_LEVEL_FEATURES, *HIGH_LEVEL_FEATURES), "1"),
    **dict.fromkeys(("Energy", "Px", "Py", "Pz", "Pt", "HT", "MET", "MT", "LepPt"), "GeV"),
    **dict.fromkeys(("vtxX", "vtxY", "vtxZ"), "mm"),
    **dict.fromkeys(("Phi", "phiMET", "LepPhi"), "rad"),
}
"""Unit of every feature; "1" where it has none."""

MAX_TRACKS = 450
MAX_PHOTONS = 150
MAX_NEUTRAL_HADRONS = 200
MAX_PARTICLES = 1 + MAX_TRACKS + MAX_PHOTONS + MAX_NEUTRAL_HADRONS
"""Rows of one event in the published padded layout: the lepton, then tracks, photons and neutral hadrons."""

# --- cutflow -----------------------------------------------------------------------------------------------------

CUTFLOW: tuple[str, ...] = ("events", "lepton_pt", "isolated_lepton")
"""Names of the selection's cuts, in order; ``events`` counts what came in."""

# --- columns of the ``selected`` Parquet files -------------------------------------------------------------------

STORED_PARTICLE_FEATURES: tuple[str, ...] = (
    "Pt",
    "Eta",
    "Phi",
    "vtxX",
    "vtxY",
    "vtxZ",
    "ChPFIso",
    "GammaPFIso",
    "NeuPFIso",
)
"""Particle columns kept as list<float32>; ``kind`` and ``Charge`` are list<int8>; other features follow from these."""

PARTICLE_KIND_COLUMN = "kind"

# Identity of an event, in every Parquet file from ``selected`` on.
ENTRY_COLUMN = "entry"  # entry number in its ROOT file
KEY_COLUMN = "key"  # uint64: hash of file id and entry, which orders a ``selected`` file
WEIGHT_COLUMN = "weight"
PILEUP_COLUMN = "pileup"  # int32, null where the file does not say
HIGH_LEVEL_COLUMN = "hlf"  # fixed_size_list<float32>[14]

# --- datasets ----------------------------------------------------------------------------------------------------

SPLITS: tuple[str, ...] = ("train", "validation", "test")

RECORD_KEYS: dict[str, str] = {
    "high_level": "hlf",  # float[14], scaled
    "particles": "particles",  # float[length * 19], scaled, in order of decreasing ΔR from the lepton, unpadded
    "length": "length",  # int64: number of real particles
    "label": "label",  # int64
    "weight": "weight",  # float: signed, normalised to mean |weight| 1 within each class of the training split
    "event_id": "event_id",  # bytes: "{file id}:{entry}"
}
"""Role → key of our TFRecord examples."""
