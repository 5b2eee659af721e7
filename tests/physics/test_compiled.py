from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from toposieve.physics import compiled
from toposieve.physics.compiled import kernel, summing_kernel

MODULE = """
from toposieve.physics.compiled import kernel

@kernel
def double(x):
    return 2 * x
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ModuleType]:
    """A module with one kernel, imported anew at each call, as by a new process."""
    (tmp_path / "doubling.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def load() -> ModuleType:
        return importlib.reload(importlib.import_module("doubling"))

    return load


def test_a_kernel_is_compiled_once_for_all_processes(load: Callable[[], ModuleType]) -> None:
    assert load().double(2.0) == 4.0
    again = load()
    assert again.double(2.0) == 4.0
    assert sum(again.double.stats.cache_hits.values()) == 1


def test_a_change_in_any_source_recompiles(load: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    load().double(2.0)
    monkeypatch.setattr(compiled, "sources_digest", lambda: "another file was edited")
    again = load()
    again.double(2.0)
    assert sum(again.double.stats.cache_hits.values()) == 0


def test_digest_covers_the_kernels_and_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "physics").mkdir()
    folders = {"toposieve": tmp_path, "toposieve.physics": tmp_path / "physics"}
    monkeypatch.setattr(compiled.resources, "files", folders.__getitem__)
    digests = set()
    for path in ("schema.py", "physics/isolation.py", "physics/kinematics.py"):
        (tmp_path / "schema.py").touch()
        (tmp_path / path).write_text(path)
        digests.add(compiled.sources_digest.__wrapped__())
    assert len(digests) == 3


def total(values):  # type: ignore[no-untyped-def]
    result = 0.0
    for value in values:
        result += value
    return result


def test_only_sums_of_summing_kernels_may_be_reordered() -> None:
    half_a_bit = 2.0**-53
    # From the left each half of 1's last bit is lost; the other way around the two halves make a whole.
    assert kernel(total)(np.array([1.0, half_a_bit, half_a_bit])) == 1.0
    assert kernel(total)(np.array([half_a_bit, half_a_bit, 1.0])) > 1.0
    assert math.isnan(summing_kernel(total)(np.array([1.0, math.nan])))
    assert summing_kernel(total)(np.arange(100.0)) == 4950.0
