from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from toposieve.errors import ConflictError
from toposieve.io import heartbeats
from toposieve.io.heartbeats import (
    FRESH_SECONDS,
    LAPSED_SECONDS,
    SWEEP,
    Claim,
    Heartbeat,
    any_fresh,
    others,
    wait_for_sweeps,
)
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


def claim_of(folder: Key, host: str = "", pid: int = 0, task: str = "") -> Path:
    """What another process has left."""
    sign = Claim(folder, task)
    sign.begin()
    sign._ended.set()
    said = json.loads(sign.key.read_text())
    sign.key.write_text(json.dumps({**said, "host": host or said["host"], "pid": pid or said["pid"]}))
    return Path(str(sign.key))


NO_PROCESS = 2**22 + 1


def test_a_folder_has_one_writer_and_a_second_is_told_who(folder: Key) -> None:
    with Claim(folder, "train hlf") as first:
        with pytest.raises(ConflictError, match=rf"{folder} is being written by train hlf \(process {os.getpid()} on "):
            Claim(folder, "train lstm").__enter__()
        first.check()
        assert list((folder / HEARTBEATS).list()) == [first.key.name]
    with Claim(folder, ""):
        pass
    assert not (folder / HEARTBEATS).list()


def test_somebody_on_another_machine_is_waited_for_until_he_is_silent_for_minutes(folder: Key) -> None:
    left = claim_of(folder, host="elsewhere", pid=NO_PROCESS)
    now = left.stat().st_mtime
    os.utime(left, (now, now - LAPSED_SECONDS + 30))
    with pytest.raises(ConflictError, match="somebody"):
        Claim(folder, "").__enter__()
    os.utime(left, (now, now - LAPSED_SECONDS))
    with Claim(folder, ""):
        assert not left.exists()


@pytest.mark.parametrize("other", [{"host": "elsewhere", "task": "train hlf"}, {"pid": NO_PROCESS}])
def test_the_next_try_of_a_task_or_of_a_dead_process_takes_over_at_once(folder: Key, other: dict[str, str]) -> None:
    left = claim_of(folder, **other)
    with Claim(folder, "train hlf") as mine:
        assert not left.exists()
        mine.check()


def test_who_was_taken_over_learns_it_and_shows_no_sign_again(folder: Key) -> None:
    with Claim(folder, "train hlf") as old, Claim(folder, "train hlf") as new:
        with pytest.raises(ConflictError, match="was taken over by another process"):
            old.check()
        with pytest.raises(ConflictError):
            old.show()
        assert list((folder / HEARTBEATS).list()) == [new.key.name]
