"""Imports go down only: a folder builds on those above it in the table, and on none that the table does not name."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support.code import imports
from support.repository import REPOSITORY

PLUGINS = REPOSITORY / "plugins"
OURS = "toposieve_airflow"

LAYERS: dict[str, set[str]] = {
    "contract": set(),
    "profile": set(),
    "profile_schema": {"profile"},
    "runs": {"contract", "profile"},
    "local": {"contract", "runs"},
    "kubernetes.api": {"contract", "runs"},
    "kubernetes.gang": {"contract", "runs", "kubernetes.api"},
    "kubernetes.spark": {"contract", "runs", "local", "kubernetes.api"},
    "kubernetes": {"profile", "runs", "kubernetes.api", "kubernetes.gang", "kubernetes.spark"},
    "ui": {"contract", "profile", "runs"},
    "toposieve_ui": {"runs", "ui"},
    "toposieve_demo": {"profile", "runs", "local", "ui"},
}
"""Folder, or module, → those that it builds on."""


def modules() -> dict[str, Path]:
    paths = {".".join(path.relative_to(PLUGINS).with_suffix("").parts): path for path in PLUGINS.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


def imported(path: Path) -> set[str]:
    return set(imports(ast.parse(path.read_text(encoding="utf-8"))))


def layer_of(module: str) -> str:
    """The folder that the table has for a module: the innermost."""
    name = module.removeprefix(f"{OURS}.")
    return max((layer for layer in LAYERS if f"{name}.".startswith(f"{layer}.")), key=len)


def test_each_layer_builds_on_what_the_table_says() -> None:
    known, found = modules(), {layer: set[str]() for layer in LAYERS}
    for module, path in known.items():
        if module != OURS:
            used = {layer_of(each) for each in imported(path) & known.keys() - {OURS}}
            found[layer_of(module)] |= used - {layer_of(module)}
    assert found == LAYERS


def test_layers_have_an_order_and_modules_too() -> None:
    order = list(LAYERS)
    assert all(order.index(below) < order.index(layer) for layer in LAYERS for below in LAYERS[layer])
    known = modules()
    graph = {module: imported(path) & known.keys() for module, path in known.items()}
    assert set(TopologicalSorter(graph).static_order()) == known.keys()


def test_what_jobs_and_operators_agree_on_needs_the_standard_library_alone() -> None:
    used = {each for path in (PLUGINS / OURS / "contract").glob("*.py") for each in imported(path)}
    assert {each.partition(".")[0] for each in used} <= {*sys.stdlib_module_names, OURS}


@pytest.mark.parametrize("library", ["toposieve", "pyspark", "numpy", "tensorflow"])
def test_nothing_needs_what_only_the_jobs_have(library: str) -> None:
    used = {each for path in modules().values() for each in imported(path)}
    assert library not in {each.partition(".")[0] for each in used}
