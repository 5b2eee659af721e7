"""The code on which all faults of a test file have passed: as long as it is the same, a share a day is enough."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from support.airflow_environment import REPOSITORY
from support.code_digest import code_of

PROVEN = REPOSITORY / "tests" / "golden" / "proven_faults.json"
OPERATORS = "plugins/toposieve_airflow/kubernetes"
TRAINING = "jobs/toposieve/training"


def is_proven(test_file: Path) -> bool:
    """Whether its faults have passed on this code."""
    return _proven().get(_name(test_file)) == _digest(test_file)


def record(test_files: Iterable[Path]) -> None:
    """Write down that all of their faults have passed."""
    proven = _proven() | {_name(file): _digest(file) for file in test_files}
    known = {name: digest for name, digest in sorted(proven.items()) if (REPOSITORY / name).exists()}
    PROVEN.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def _proven() -> dict[str, str]:
    known: dict[str, str] = json.loads(PROVEN.read_text(encoding="utf-8")) if PROVEN.exists() else {}
    return known


def _name(test_file: Path) -> str:
    return test_file.relative_to(REPOSITORY).as_posix()


def _digest(test_file: Path) -> str:
    """Of the test, the operators and, where its name says so, the training."""
    folders = [OPERATORS, *([TRAINING] if "training" in test_file.name else [])]
    files = [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]
    code = "\n".join(code_of(path.read_text(encoding="utf-8")) for path in (*files, test_file))
    return hashlib.blake2b(code.encode(), digest_size=8).hexdigest()
