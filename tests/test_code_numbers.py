"""A stage whose code changes gets another code number, or somebody says that its results are the same."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.code import code_of, imports
from toposieve.code_numbers import CODE_NUMBERS

JOBS = Path(__file__).parent.parent / "jobs"
GOLDEN = Path(__file__).parent / "golden" / "code_digests.json"

ENTRIES = {
    "simulate": ["toposieve.simulation.files", "toposieve.simulation.pileup"],
    "ingest": ["toposieve.spark.ingestion"],
    "select": ["toposieve.spark.selection"],
    "prepare": ["toposieve.spark.preparation"],
    "import": ["toposieve.training.published"],
    "train": ["toposieve.training.loop", "toposieve.training.results"],
    "score": ["toposieve.evaluation.scoring"],
    "evaluate": [
        f"toposieve.evaluation.{name}" for name in ("inputs", "content", "performance", "predictions", "report")
    ],
    "decide": ["toposieve.spark.decisions"],
    "tune": ["toposieve.tuning.study"],
    "train_trees": ["toposieve.tuning.tree_runs"],
    "firmware": ["toposieve.firmware.making"],
}
"""Modules that make a stage's results; what they import belongs to them."""

ELSEWHERE = {
    *(f"toposieve.{name}" for name in ("cli", "code_numbers", "config", "errors", "version")),
    *(f"toposieve.io.{name}" for name in ("heartbeats", "history", "manifests", "names", "publication", "stages")),
    *(f"toposieve.io.{name}" for name in ("store", "sweep", "units")),
    *(f"toposieve.spark.{name}" for name in ("balance", "java", "run", "session", "tasks", "verification")),
}
"""Modules that decide when and where something is done, not what; the configuration has a hash of its own."""

NOT_USED = {
    "ingest": {"toposieve.physics.selection"},
    "evaluate": {"toposieve.io.selected"},
    "prepare": {f"toposieve.physics.{name}" for name in ("leptons", "particles", "selection")},
    "decide": {
        *(f"toposieve.physics.{name}" for name in ("leptons", "particles", "selection")),
        *("toposieve.spark.selection", "toposieve.io.delphes", "toposieve.io.raw"),
    },
}
"""What a stage imports but does not use: ``io`` and ``physics.features`` serve several. Of raw events, decisions carry
the selection's number."""


def path_of(module: str) -> Path | None:
    path = JOBS.joinpath(*module.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.exists()), None)


def closure(stage: str) -> list[str]:
    """Modules behind a stage's results, sorted."""
    found, waiting = set[str](), list(ENTRIES[stage])
    left_out = ELSEWHERE | NOT_USED.get(stage, set())
    while waiting:
        module = waiting.pop()
        path = path_of(module)
        if path is None or module in found | left_out or module.startswith("toposieve.io.store."):
            continue
        found.add(module)
        waiting += imports(ast.parse(path.read_text(encoding="utf-8")))
    return sorted(found)


def digest(modules: list[str]) -> str:
    """Of modules, and of the tables beside them."""
    hashed, folders = hashlib.blake2b(digest_size=8), set[Path]()
    for module in modules:
        path = path_of(module)
        assert path
        folders.add(path.parent)
        hashed.update(f"{module}\n{code_of(path.read_text(encoding='utf-8'))}\n".encode())
    for table in sorted(
        path for folder in folders for suffix in ("txt", "json") for path in folder.glob(f"*.{suffix}")
    ):
        hashed.update(table.read_bytes())
    return hashed.hexdigest()


def test_every_stage_has_a_number_and_modules() -> None:
    assert set(ENTRIES) == set(CODE_NUMBERS)
    assert all(path_of(module) for modules in ENTRIES.values() for module in modules)
    assert all(path_of(module) for module in ELSEWHERE)


@pytest.mark.parametrize("stage", CODE_NUMBERS)
def test_another_code_has_another_number(
    stage: str, request: pytest.FixtureRequest, check_golden: Callable[[str, str], None]
) -> None:
    known = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    now = {"code": CODE_NUMBERS[stage], "digest": digest(closure(stage))}
    if request.config.getoption("--update-golden"):
        every = {name: known[name] for name in CODE_NUMBERS if name in known} | {stage: now}
        check_golden(GOLDEN.name, json.dumps(every, indent=1, sort_keys=True) + "\n")
    elif known.get(stage) != now:
        pytest.fail(
            f"the code behind {stage} is not what it was: raise CODE_NUMBERS[{stage!r}] if its results have changed, "
            f"and confirm with `pytest {Path(__file__).name} --update-golden` (part of `make golden`)",
            pytrace=False,
        )


def test_a_kernel_concerns_the_stages_that_use_it_and_no_other() -> None:
    concerned = {stage for stage in ENTRIES if "toposieve.physics.isolation" in closure(stage)}
    assert concerned == {"select", "simulate"}
    assert "toposieve.io.delphes" in closure("ingest")


def test_only_code_counts() -> None:
    source = "def f(x):\n    return x + 1\n"
    assert code_of('"""Text."""\n\ndef f(x):\n    """More."""\n    return (x + 1)  # why\n') == code_of(source)
    assert code_of(source.replace("1", "2")) != code_of(source)
