from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from toposieve.io import heartbeats
from toposieve.io.heartbeats import FRESH_SECONDS, SWEEP, Heartbeat, any_fresh, others, wait_for_sweeps
from toposieve.io.names import HEARTBEATS
from toposieve.io.store import Key, root_key


@pytest.fixture
def folder(tmp_path: Path) -> Key:
    return root_key("--base", str(tmp_path))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes only while somebody sleeps: each sleep is added."""
    slept = [0.0]
    monkeypatch.setattr(heartbeats.time, "sleep", slept.append)
    monkeypatch.setattr(heartbeats.time, "monotonic", lambda: sum(slept))
    return slept


def test_a_sign_is_there_until_it_ends(folder: Key) -> None:
    sign = Heartbeat(folder)
    now = sign.begin()
    assert list((folder / HEARTBEATS).list()) == [sign.key.name]
    assert others(folder, sign) == []
    other = Heartbeat(folder)
    assert others(folder, other) == [now]
    assert sign.end() >= now
    assert others(folder, other) == []


def test_a_sign_is_renewed(folder: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "RENEWED_SECONDS", 0.001)
    shown, real = threading.Event(), Heartbeat.show

    def show(self: Heartbeat) -> float:
        if threading.current_thread().name == "heartbeat":
            shown.set()
        return real(self)

    monkeypatch.setattr(Heartbeat, "show", show)
    sign = Heartbeat(folder)
    sign.begin()
    assert shown.wait(10)
    sign.end()
    assert not (folder / HEARTBEATS).list()


def test_an_old_sign_is_no_life_but_one_from_the_future_is() -> None:
    assert any_fresh([1000.0 - FRESH_SECONDS + 1], 1000.0)
    assert any_fresh([1e9], 1000.0)
    assert not any_fresh([1000.0 - FRESH_SECONDS], 1000.0)
    assert not any_fresh([], 1000.0)


def test_a_run_waits_for_a_sweep_and_not_longer_than_a_minute(folder: Key, clock: list[float]) -> None:
    now = Heartbeat(folder, SWEEP).show()
    assert wait_for_sweeps(folder, now)
    assert 60 <= sum(clock) <= 62


def test_a_run_waits_for_no_other_run(folder: Key, clock: list[float]) -> None:
    now = Heartbeat(folder).show()
    assert not wait_for_sweeps(folder, now)
    assert sum(clock) == 0


def test_a_sweep_that_died_long_ago_holds_nobody_up(folder: Key, clock: list[float], tmp_path: Path) -> None:
    dead = Heartbeat(folder, SWEEP)
    now = dead.show()
    os.utime(tmp_path / dead.key.path, (now - 70, now - 70))
    assert not wait_for_sweeps(folder, now)
    assert sum(clock) == 0
