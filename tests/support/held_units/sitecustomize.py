"""Holds units of work of real jobs for as long as a test likes. Python runs this at its start where PYTHONPATH says so.

The folder that ``TOPOSIEVE_TEST_HOLD`` names has a file ``limits`` with two numbers: how many units are finished before
any is held, and how many are held at most. A unit is held when its file is there and its record is not. Lines of
``log`` say "held" or "done", the process and the unit; a file ``go`` ends it all.
"""

import os
import time
from pathlib import Path

LONGEST_SECONDS = 120


def _install(folder: Path) -> None:
    from toposieve.io import units
    from toposieve.spark import balance

    balance.LEAST_EVENTS = 1  # as many tasks as units, however few events these hold: several are held at once
    write = units.write_record

    def held(place, name, unit):
        _hold(folder, name)
        write(place, name, unit)
        _log(folder, "done", name)

    units.write_record = held


def _hold(folder: Path, name: str) -> None:
    free, most = map(int, (folder / "limits").read_text().split())
    words = [line.split()[0] for line in (folder / "log").read_text().splitlines()]
    if words.count("done") < free or not any(_take(folder / f"held-{place}") for place in range(most)):
        return
    _log(folder, "held", name)
    end = time.monotonic() + LONGEST_SECONDS
    while not (folder / "go").exists():
        assert time.monotonic() < end, f"{name} is held for too long"  # a defect, which ends the job
        time.sleep(0.05)


def _take(marker: Path) -> bool:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _log(folder: Path, word: str, name: str) -> None:
    with (folder / "log").open("a") as stream:
        stream.write(f"{word} {os.getpid()} {name}\n")


if "TOPOSIEVE_TEST_HOLD" in os.environ:
    _install(Path(os.environ["TOPOSIEVE_TEST_HOLD"]))
