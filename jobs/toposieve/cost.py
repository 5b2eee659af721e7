"""What the Spark jobs take: a linear cost model of CPU time, and the plan that a job's ``--plan`` prints from it.

The numbers are per stage, from ``make bench``: of the machine that it ran on last, or those shipped here. An event is
one of the simulation with a pile-up of 20, some 560 particles; with n times as many, it takes about n times as long.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from toposieve.spark.balance import number_of_tasks

START_SECONDS = 8.0
"""CPU seconds that Spark takes to start, and to import what tasks need."""

DRIVER_SECONDS = 250e-6
"""What the driver alone does for each unit: 40,000 are published in 10 s."""


@dataclass(frozen=True)
class Costs:
    """CPU seconds, and bytes written.

    Attributes:
        fixed: Once a run, Spark's start included.
        file: For each input file.
        branch: For each branch that is parsed: a file of Delphes has a thousand, and each unit parses all of its own.
        unit: For each unit of work.
        event: For each event.
        byte: For each byte read.
        written: Bytes of output for each event that is written.
    """

    fixed: float = START_SECONDS
    file: float = 0.0
    branch: float = 0.0
    unit: float = 0.0
    event: float = 0.0
    byte: float = 0.0
    written: float = 0.0


SHIPPED: dict[str, Costs] = {
    "ingest": Costs(fixed=6.4, file=2.6e-3, branch=193e-6, byte=0.18e-9),
    "store events": Costs(fixed=0.0, unit=0.05, event=180e-6, written=12_000),
    "select": Costs(fixed=6.6, branch=196e-6, unit=0.036, event=145e-6, written=12_000),
    "prepare": Costs(fixed=7.3, unit=3e-3, event=219e-6, byte=5e-9, written=44_000),
    "decide": Costs(fixed=7.0, unit=0.02, event=400e-6, written=60),
    "pile-up library": Costs(fixed=0.0, event=3e-3, written=4_000),
    "simulate qcd": Costs(unit=0.5, event=0.16, written=30_000),
    "simulate ttbar": Costs(unit=0.3, event=25e-3, written=30_000),
    "simulate wjets": Costs(unit=0.3, event=20e-3, written=30_000),
}
"""Ingest, select and prepare as ``make bench`` measured them on two cores; simulation and stored events by estimate."""


@dataclass(frozen=True)
class Work:
    """What a stage has to do.

    Attributes:
        files: Input files.
        units: Units of work.
        events: Events to read; of a simulation, those that shall pass the selection; of a dataset, those it takes.
        bytes: Bytes to read.
        branches: Branches of the files, of each as often as it is opened.
        written: Events to write.
        tasks: Tasks that the units are shared out to, and at most so many cores have something to do; 0 if each unit is
            a task of its own.
    """

    files: int = 0
    units: int = 0
    events: int = 0
    bytes: int = 0
    branches: int = 0
    written: int = 0
    tasks: int = 0

    def balanced(self) -> Work:
        """The same, its units shared out to tasks by their events."""
        return replace(self, tasks=number_of_tasks(self.units, max(self.units, self.events)))

    def cpu_seconds(self, costs: Costs) -> float:
        """CPU time; none where there is nothing to do.

        >>> Work(files=2, units=4, events=1000, bytes=0).cpu_seconds(Costs(fixed=8, file=0.5, unit=0.25, event=0.001))
        11.0
        """
        return costs.fixed + self.marginal_seconds(costs) if self.units else 0.0

    def marginal_seconds(self, costs: Costs) -> float:
        """CPU time but for the fixed part."""
        return (
            self.files * costs.file
            + self.branches * costs.branch
            + self.units * costs.unit
            + self.events * costs.event
            + self.bytes * costs.byte
        )

    def wall_seconds(self, costs: Costs, cores: int) -> float:
        """Time on so many cores, of which the fixed part and the driver's share of each unit use one."""
        if not self.units:
            return 0.0
        busy = min(cores, self.tasks or self.units)
        return costs.fixed + self.units * DRIVER_SECONDS + self.marginal_seconds(costs) / busy


def campaign(files: int, branches: int, events: int, bytes_: int, *, selected: float) -> dict[str, Work]:
    """What ingest, select and prepare have to do with files that are not there yet.

    Args:
        files: ROOT files, each of one unit.
        branches: In each of them.
        events: In all of them.
        bytes_: Of all of them.
        selected: Share of the events that passes the selection.
    """
    kept, parsed = round(events * selected), files * branches
    return {
        "ingest": Work(files, files, events, bytes_, parsed),
        "select": Work(files, files, events, bytes_, parsed, kept).balanced(),
        "prepare": Work(files, files, kept, round(kept * SHIPPED["select"].written), written=kept).balanced(),
    }


def of_one_job(works: Mapping[str, Work], costs: Mapping[str, Costs]) -> dict[str, Costs]:
    """Costs of stages that share a session, which starts whichever has something to do.

    The largest fixed part is counted once, with the first of those.

    Args:
        works: Stage → what it has to do.
        costs: Stage → what that takes in a job of its own.

    >>> works = {"ingest": Work(), "select": Work(units=1), "decide": Work(units=1)}
    >>> {name: each.fixed for name, each in of_one_job(works, SHIPPED).items()}
    {'select': 7.0, 'decide': 0.0}
    >>> of_one_job({"ingest": Work(), "store events": Work(units=1)}, SHIPPED)["store events"].fixed
    6.4
    """
    busy = [name for name, work in works.items() if work.units]
    largest = max((costs[name].fixed for name in works), default=0.0)
    return {name: replace(costs[name], fixed=largest if name == busy[0] else 0.0) for name in busy}


def describe(works: Mapping[str, Work], cores: int, costs: Mapping[str, Costs], origin: str) -> str:
    """The plan: a line for each stage, and the sum.

    Args:
        works: Stage → what it has to do.
        cores: Cores to run on.
        costs: Stage → what that takes.
        origin: Where the costs come from, for people.

    >>> costs = {"select": Costs(8.0, event=1e-3, written=1e4)}
    >>> print(describe({"select": Work(2, 2, 20_000, 10**9, written=20_000)}, 2, costs, "ours"))
    plan: select: 2 files, 2 units, 20,000 events; 1.0 GB to read, 200.0 MB to write
          CPU time 28 s, on 2 cores about 18 s where 55.6 MB a second can be read
    (costs: ours)
    """
    lines = [_line(name, work, costs[name], cores) for name, work in works.items() if work.units]
    if len(lines) > 1:
        cpu = sum(work.cpu_seconds(costs[name]) for name, work in works.items())
        wall = sum(work.wall_seconds(costs[name], cores) for name, work in works.items())
        lines.append(f"plan: all: CPU time {_time(cpu)}, on {cores} cores about {_time(wall)}")
    return "\n".join([*(lines or ["plan: nothing to do"]), f"(costs: {origin})"])


def _line(name: str, work: Work, costs: Costs, cores: int) -> str:
    what = f"{work.files:,} files, " * bool(work.files) + f"{work.units:,} units, {work.events:,} events"
    amounts = f"{_size(work.bytes)} to read, {_size(work.written * costs.written)} to write"
    cpu, wall = work.cpu_seconds(costs), work.wall_seconds(costs, cores)
    speed = f" where {_size(work.bytes / wall)} a second can be read" * bool(work.bytes)
    return f"plan: {name}: {what}; {amounts}\n      CPU time {_time(cpu)}, on {cores} cores about {_time(wall)}{speed}"


def _size(number: float) -> str:
    """Bytes, for people.

    >>> _size(0), _size(4.5e12)
    ('0 bytes', '4.5 TB')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:,.1f} {unit}"
    return f"{number:,.0f} bytes"


def _time(seconds: float) -> str:
    """Seconds, for people.

    >>> _time(12.3), _time(600.0), _time(36_000.0)
    ('12 s', '10 min', '10.0 h')
    """
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


# --- calibration -------------------------------------------------------------------------------------------------


def calibration_path() -> Path:
    """Where ``make bench`` leaves what it has measured: in the environment that the jobs run in."""
    return Path(sys.prefix) / "toposieve-costs.json"


def load_costs() -> tuple[dict[str, Costs], str]:
    """Stage → costs, and where they come from, for people."""
    try:
        found = json.loads(calibration_path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SHIPPED, "as shipped; make bench measures those of this machine"
    known = {field.name for field in fields(Costs)}
    measured = {name: Costs(**each) for name, each in found.items() if name in SHIPPED and each.keys() <= known}
    return {**SHIPPED, **measured}, f"{', '.join(measured)} as make bench measured them on this machine"


def save_costs(costs: Mapping[str, Costs]) -> None:
    """Keep measured costs for later plans, beside those that are there."""
    path = calibration_path()
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    after = {**before, **{name: asdict(each) for name, each in costs.items()}}
    path.write_text(json.dumps(after, indent=1) + "\n", encoding="utf-8")
