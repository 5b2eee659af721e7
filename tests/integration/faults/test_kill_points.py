"""Stages that end or fail anywhere: the next run gives the undisturbed bytes, and makes nothing twice that was done."""

from __future__ import annotations

import os
import random
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support.delphes_files import write_events
from support.events import random_events
from support.kill_points import MANNERS, PHASES, Order, Point, made, operations, points, recorded, run_apart
from toposieve import schema
from toposieve.io.heartbeats import FRESH_SECONDS
from toposieve.io.manifests import manifest_name, read_newest
from toposieve.io.names import HEARTBEATS
from toposieve.io.publication import TIMING_NAME
from toposieve.io.store import Key

DAY = "2026-01-01"
EVENTS, ENTRIES = 8, 4
JOBS = {"ingest": ("ingest", "events"), "select": ("select_events", "selected")}


@dataclass(frozen=True)
class Stage:
    """A stage, and an undisturbed run of it."""

    name: str
    source: Path
    """A base with what the stage reads."""
    raw: Path
    base: Path
    """Where it was run."""
    published: dict[str, bytes]
    kept: set[str]
    undisturbed: list[tuple[str, str]]
    """The store's operations in that run."""

    def order(self, base: Path, log: str, *arguments: str) -> Order:
        """Run it on a base."""
        stored = ("--set", f"entries_per_unit={ENTRIES}", "--set", "store_events=true")
        own = stored if self.name == "ingest" else ()
        options = ("--base", str(base), "--raw", str(self.raw), "--partition", DAY, *own, *arguments)
        return Order(JOBS[self.name][0], options, base / f"{self.name}-{log}.log")

    def folder(self, base: Path) -> Path:
        """Its output."""
        return base / JOBS[self.name][1] / DAY


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    """Both stages, run undisturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    raw = folder / "raw"
    for number, sample in enumerate(schema.SAMPLES):
        write_events(raw / sample / DAY / f"{sample}-0.root", random_events(seed=number, n=EVENTS, particles=10))
    (folder / "empty").mkdir()
    ingest = _undisturbed(Stage("ingest", folder / "empty", raw, folder / "ingest", {}, set(), []))
    select = _undisturbed(Stage("select", folder / "ingest", raw, folder / "select", {}, set(), []))
    return {"ingest": ingest, "select": select}


def _undisturbed(stage: Stage) -> Stage:
    shutil.copytree(stage.source, stage.base)
    order = stage.order(stage.base, "undisturbed")
    assert run_apart(order) == 0
    done = operations(order.log)
    folder = stage.folder(stage.base)
    assert len(made(done)) == len(set(made(done))) == len(schema.SAMPLES) * -(-EVENTS // ENTRIES)
    return replace(stage, published=published(folder), kept=names(folder), undisturbed=done)


def published(folder: Path) -> dict[str, bytes]:
    """What a reader sees: the newest manifest, all that it lists, and what is copied from it."""
    newest = read_newest(Key(str(folder)))
    if newest is None:
        return {}
    listed = [file.path for file in newest.manifest.outputs()]
    manifest = (folder / manifest_name(newest.number)).read_bytes()
    beside = [path.name for path in folder.glob("cutflow.json")]
    return {"manifest": manifest, **{name: (folder / name).read_bytes() for name in (*listed, *beside)}}


def names(folder: Path) -> set[str]:
    """Every file but the one that tells how long it took, and numbers that only a sweep has taken."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if name != TIMING_NAME and not name.startswith("manifest-")}


def disturb(stage: Stage, base: Path, point: Point, manner: str) -> None:
    """Kill a run, run again, sweep; check everything."""
    shutil.copytree(stage.source, base)
    folder = stage.folder(base)
    first = stage.order(base, "first")
    code = run_apart(replace(first, point=point, manner=manner))
    assert code in exits(manner), f"exits with {code}"
    early = published(folder)
    assert all(stage.published[name] == content for name, content in early.items()), "a reader sees something else"
    second = stage.order(base, "second")
    assert run_apart(second) == 0
    assert published(folder) == stage.published
    check_made(stage, operations(first.log), operations(second.log))
    for sign in (folder / HEARTBEATS).glob("*"):
        os.utime(sign, (0, sign.stat().st_mtime - 2 * FRESH_SECONDS))
    assert run_apart(stage.order(base, "sweep", "--sweep")) == 0
    assert published(folder) == stage.published
    assert names(folder) == stage.kept, "not all is swept that was left"


def exits(manner: str) -> tuple[int, ...]:
    """What a run may end with that was disturbed so; it may have been done, or bear it."""
    return {
        "SIGKILL": (-signal.SIGKILL,),
        "SIGTERM": (-signal.SIGTERM,),
        "exit": (77,),
        "disk full": (0, 2),
        "store away": (0, 1),
    }[manner]


def check_made(stage: Stage, first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
    """Nothing is made again whose record was there, and nothing is left out."""
    for position, operation in enumerate(first):
        for unit in recorded([operation]):
            assert unit not in made(first[position:]), f"{unit} is made twice"
    units = {key for key in made(stage.undisturbed) if key not in recorded(first)}
    assert sorted(made(second)) == sorted(units)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("stage", JOBS)
def test_the_next_run_goes_on(
    stages: dict[str, Stage],
    stage: str,
    phase: str,
    manner: str,
    seed: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    candidates = points(stages[stage].undisturbed)[phase]
    one = random.Random(f"{seed} {stage} {phase} {manner}").choice(candidates)
    chosen = candidates if request.config.getoption("--faults") == "all" else [one]
    for number, point in enumerate(chosen):
        try:
            disturb(stages[stage], tmp_path / str(number), point, manner)
        except AssertionError as error:
            raise AssertionError(f"{stage}, {manner} {point}: {error}") from error
