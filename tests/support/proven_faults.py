"""Which faults of a cluster have been borne by the code as it is: one that has not is tested, whatever the day."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from support.code import code_of
from support.repository import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden" / "proven_faults.json"
TESTS = REPOSITORY / "tests" / "integration" / "kubernetes"
PLUGINS = REPOSITORY / "plugins" / "toposieve_airflow" / "kubernetes"
TRAINING = REPOSITORY / "jobs" / "toposieve" / "training"

CONCERNS = {
    "gang": [PLUGINS / "api", PLUGINS / "gang"],
    "spark": [PLUGINS / "api", PLUGINS / "spark"],
    "test_airflow.py": [PLUGINS],
    "test_training_faults.py": [PLUGINS, *(TRAINING / f"{name}.py" for name in ("checkpoints", "gang", "loop"))],
}
"""Folder or file of tests → the code that bears their faults."""


@cache
def digest(tests: Path) -> str:
    """Of a file of tests, and of the code that bears its faults."""
    hashed = hashlib.blake2b(digest_size=8)
    for part in [tests, *CONCERNS[tests.relative_to(TESTS).parts[0]]]:
        for path in sorted(part.rglob("*.py")) if part.is_dir() else [part]:
            code = code_of(path.read_text(encoding="utf-8"))
            hashed.update(f"{path.relative_to(REPOSITORY)}\n{code}\n".encode())
    return hashed.hexdigest()


def proven() -> dict[str, str]:
    known: dict[str, str] = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    return known


def prove(test: str, tests: Path) -> None:
    """Keep that a test of a fault has passed."""
    GOLDEN.write_text(json.dumps(proven() | {test: digest(tests)}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
