"""Another class is one more entry of the table."""

import subprocess
import sys
from pathlib import Path

JOBS = Path(__file__).parents[1] / "jobs"

WITH_ANOTHER = """
from toposieve.classes import CLASSES, EventClass
CLASSES["zjets"] = EventClass(
    title="$Z$+jets",
    colour="#CC79A7",
    process=("WeakSingleBoson:ffbar2gmZ = on", "23:onMode = off", "23:onIfAny = 11 13"),
    btag_mask=2,
)
from toposieve import schema
from toposieve.config import PreparationConfig, SelectionConfig, SimulationConfig
from toposieve.evaluation.style import CLASS_COLOURS, CLASS_LABELS
from toposieve.io.names import sample_of
from toposieve.preprocessing import class_sizes
from toposieve.schema_export import export
from toposieve.simulation.generator import generate

assert schema.SAMPLES[3] == "zjets"
assert SimulationConfig().samples[3] == "zjets"
assert SelectionConfig().btag_mask["zjets"] == 2
assert "zjets" in str(export()["simulation"])
assert sample_of("zjets/day/1.root") == "zjets"
assert class_sizes({name: 5 for name in CLASSES}, PreparationConfig())["zjets"] == 5
assert (CLASS_COLOURS["zjets"], CLASS_LABELS["zjets"]) == ("#CC79A7", "$Z$+jets")
assert next(generate("zjets", seed=1)).count > 0
"""


def test_all_that_names_classes_follows() -> None:
    subprocess.run([sys.executable, "-c", WITH_ANOTHER], cwd=JOBS, check=True)
