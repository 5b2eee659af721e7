"""The seed from which kill points are drawn; a failure is repeated with it."""

from __future__ import annotations

import os
import random

import pytest

SEED_VARIABLE = "TOPOSIEVE_TEST_SEED"
_SEED = os.environ.get(SEED_VARIABLE) or str(random.SystemRandom().randrange(1_000_000))


@pytest.fixture(scope="session")
def seed() -> str:
    return _SEED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"kill points drawn with {SEED_VARIABLE}={_SEED}")
