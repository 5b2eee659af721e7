"""What each image runs is imported with the packages of that image alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}, as in the image")

sys.meta_path.insert(0, Blocked())
for name in {parts}:
    part = importlib.import_module(f"toposieve.{{name}}")
    for found in pkgutil.iter_modules(getattr(part, "__path__", [])):
        importlib.import_module(f"toposieve.{{name}}.{{found.name}}")
"""

SPARK_ALONE = ("awkward", "cramjam", "fastjet", "numba", "pythia8mc", "pyspark", "uproot")
SHARED = ("crc32c", "pyarrow", "xxhash")
SERVE = tuple(f"serving.{name}" for name in ("consumer", "following", "metrics", "scorer", "settings"))
TRAINING_ALONE = ("hist", "keras", "mplhep", "tensorboard", "tensorflow")


@pytest.mark.parametrize(
    ("parts", "packages"),
    [
        (("training", "evaluation"), SPARK_ALONE),
        (("physics", "simulation", "spark"), TRAINING_ALONE),
        (SERVE, (*(name for name in SPARK_ALONE if name != "numba"), *TRAINING_ALONE)),
        (("check_config", "check_outputs", "copy_documents", "read_object"), (*SPARK_ALONE, *SHARED, *TRAINING_ALONE)),
    ],
    ids=["training", "spark", "serving", "airflow"],
)
def test_nothing_is_needed_that_the_image_lacks(parts: tuple[str, ...], packages: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", CODE.format(parts=parts, packages=packages)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
