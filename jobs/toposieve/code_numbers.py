"""Which code made an output: a number for each stage, raised when its results change.

The number is part of the identity of everything that a stage makes, so a mended kernel makes its stage's output anew,
and not that of the stages before it. ``tests/test_code_numbers.py`` holds a digest of the modules behind each stage: it
fails when one changes, until the number is raised here, or the change is confirmed there to give the same results.
"""

from __future__ import annotations

CODE_NUMBERS = {
    "simulate": 4,
    "ingest": 4,
    "select": 4,
    "prepare": 6,
    "import": 3,
    "train": 4,
    "score": 1,
    "evaluate": 9,
    "decide": 1,
    "tune": 3,
    "train_trees": 2,
    "firmware": 4,
}
"""Stage → its number."""
