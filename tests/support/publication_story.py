"""One folder in a memory store, who works on it, and what must never happen there."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.interleavings import DAY, Actor
from support.memory_store import START, MemoryStore, Semantics
from toposieve.errors import ConflictError
from toposieve.io import heartbeats, manifests, store, sweep
from toposieve.io.manifests import Manifest, OutputFile, Unit, in_order, manifest_name, read_newest
from toposieve.io.names import HEARTBEATS, RECORDS, unit_name
from toposieve.io.publication import Publication
from toposieve.io.store import Key
from toposieve.io.units import adopt_or_make

FOLDER = Key("memory", "out")
KEPT_HOURS = 1.0

_world: Story


@contextmanager
def in_memory() -> Iterator[None]:
    """The real code, on the story's store, by its clock, and without threads or chance."""
    clock = SimpleNamespace(monotonic=lambda: _world.store.clock, sleep=lambda seconds: _world.store.sleep(seconds))
    idle = SimpleNamespace(start=lambda: None, join=lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_opened", lambda root, pid: _world.store)
        for module in (heartbeats, sweep, manifests):
            patch.setattr(module, "time", clock)
        patch.setattr(heartbeats, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=_world.new_name())))
        patch.setattr(
            heartbeats,
            "threading",
            SimpleNamespace(Thread=lambda **_: idle, Event=lambda: SimpleNamespace(set=lambda: None)),
        )
        patch.setattr(heartbeats, "WAIT_SECONDS", 30.0)
        patch.setattr(manifests, "_UNFINISHED_SECONDS", 2)
        for name in ("parse_manifest", "read_stub"):  # the same few contents, in every order
            patch.setattr(manifests, name, cache(getattr(manifests, name)))
        yield


class Story:
    """A folder, who works on it, and what must never happen there."""

    def __init__(self, semantics: Semantics) -> None:
        global _world
        _world = self
        self.store = MemoryStore(semantics)
        self.actors: list[Actor] = []
        self.counts: dict[str, int] = {}
        self.returned: set[str] = set()
        """Sources of all that a publication has promised to keep."""
        self.made: dict[str, int] = {}
        self.a_day_has_passed = False
        self.store.changed = self._changed
        self.known: dict[str, bytes] = {}

    def new_name(self) -> str:
        client = self.store.client()
        self.counts[client] = self.counts.get(client, 0) + 1
        return f"{client}.{self.counts[client]}"

    # --- who acts

    def add(self, name: str, act: Callable[[], None], *, event: bool = False) -> Actor:
        actor = Actor(name, act, event)
        self.actors.append(actor)
        return actor

    def writer(self, name: str, sources: str, config: str = "1f") -> Actor:
        return self.add(name, lambda: self.write(name, sources, config))

    def write(self, name: str, sources: str, config: str = "1f") -> None:
        with Publication(FOLDER, kept_hours=KEPT_HOURS) as run:
            kept = {unit.source: unit for unit in run.reusable(config, 1)}
            missing = sorted(set(sources) - set(kept))
            made = [adopt_or_make(FOLDER, unit_name(s, config), self.maker(name, s, config)).unit for s in missing]
            published = run.publish(manifest_of([*kept.values(), *made], config))
            self.returned |= {unit.source for unit in published.units}
            self._check_newest()

    def sweeper(self, name: str = "s") -> Actor:
        return self.add(name, lambda: sweep.sweep(FOLDER, kept_hours=KEPT_HOURS))

    def reader(self, name: str = "r") -> Actor:
        return self.add(name, self._read)

    def killer(self, victim: Actor) -> None:
        def kill() -> None:
            victim.dead = True

        self.add(f"end of {victim.name}", kill, event=True).needs = victim  # type: ignore[attr-defined]

    def freezer(self, victim: Actor) -> None:
        """A day passes, while one process stands still and shows no sign of life."""

        def freeze() -> None:
            self.store.clock += DAY
            self.store.forget_past()
            self.a_day_has_passed = True
            for actor in self.actors:
                if actor is not victim and not actor.over:
                    self._renew(actor)

        self.add(f"a day without {victim.name}", freeze, event=True).needs = victim  # type: ignore[attr-defined]

    def allowed(self, actor: Actor) -> bool:
        if actor.wakes is not None and any(o.pending[0] == "fill" and not o.over for o in self.actors):
            return False  # without hard links, whoever stands still for ten seconds between two steps is beyond help
        victim = getattr(actor, "needs", None)
        if victim is None:
            return True
        if victim.over or victim.pending == ("", ""):
            return False
        if actor.name.startswith("a day") and victim.pending[0] == "fill":
            return False
        if actor.name.startswith("a day"):  # a sweep that stands still inside one request is beyond what can be had
            return not any(self._removes(other) for other in self.actors)
        return True

    def _removes(self, actor: Actor) -> bool:
        signs = (key for key in self.store.objects if f"/{HEARTBEATS}/sweep-{actor.name}." in key)
        return not actor.over and actor.pending[0] == "delete" and any(signs)

    def _renew(self, actor: Actor) -> None:
        for key, (content, _) in list(self.store.objects.items()):
            if key.startswith((f"out/{HEARTBEATS}/{actor.name}.", f"out/{HEARTBEATS}/sweep-{actor.name}.")):
                self.store.objects[key] = (content, self.store.clock)

    # --- what must hold

    def maker(self, name: str, source: str, config: str) -> Callable[[Path], Unit]:
        file = unit_name(source, config)
        done = self._is_done(file)

        def make(path: Path) -> Unit:
            assert not done or self.a_day_has_passed, f"{source} is made again by {name}"
            path.write_bytes(source.encode() * 50)
            return unit_of(source)

        return make

    def _is_done(self, file: str) -> bool:
        return f"out/{file}" in self.store.objects and f"out/{RECORDS}/{file}.json" in self.store.objects

    def _changed(self, key: str) -> None:
        name = key.removeprefix("out/")
        if not name.startswith("manifest"):
            if not name.startswith("_"):
                self._check_files()
            return
        old, content = self.known.get(key, b""), self.store.objects.get(key, (None, 0))[0]
        assert content is not None, f"number of {name} is free again"
        if old and old != content:
            assert manifests.read_stub(content), f"{name} is overwritten"
            assert self.newest_name() != f"out/{manifest_name(0)}", f"{name} is swept though it is the newest"
        self.known[key] = content
        self._check_files()
        self._check_newest()

    def newest_name(self) -> str:
        """Key of the newest manifest, past the store's tricks."""
        keys = sorted(
            key
            for key, (content, _) in self.store.objects.items()
            if key.startswith("out/manifest-") and content and not manifests.read_stub(content)
        )
        return keys[-1] if keys else "out/manifest.json"

    def newest(self) -> Manifest | None:
        content = self.store.objects.get(self.newest_name(), (b"", 0))[0]
        return manifests.parse_manifest(content, FOLDER)

    def _check_files(self) -> None:
        newest = self.newest()
        for file in newest.outputs() if newest else ():
            found = self.store.objects.get(f"out/{file.path}", (b"", 0))[0]
            assert len(found) == file.bytes, f"{file.path} is listed but missing or cut short"

    def _check_newest(self) -> None:
        newest = self.newest()
        lost = self.returned - {unit.source for unit in newest.units} if newest else self.returned
        assert not lost, f"published and lost: {lost}"

    def _read(self) -> None:
        newest = read_newest(FOLDER)
        for file in newest.manifest.outputs() if newest else ():
            try:
                content = (FOLDER / file.path).read_bytes()
            except FileNotFoundError:
                assert self.a_day_has_passed, f"{file.path} was listed, and is gone"
                continue
            assert len(content) == file.bytes, f"{file.path} is cut short"

    def check(self) -> None:
        """Whatever happened, one more run gives what an undisturbed one gives."""
        for actor in self.actors:
            assert actor.error is None or isinstance(actor.error, ConflictError | FileNotFoundError), repr(actor.error)
        self.a_day_has_passed = True  # what is done again now is not counted
        self.store.clock += 2 * DAY
        self.store.forget_past()
        self.returned.clear()
        self.write("z", SOURCES)
        newest = self.newest()
        assert newest is not None
        assert newest.to_bytes() == UNDISTURBED
        for file in newest.outputs():
            source = file.path[0]
            assert self.store.objects[f"out/{file.path}"][0] == source.encode() * 50


SOURCES = "abc"


def unit_of(source: str, *outputs: OutputFile) -> Unit:
    return Unit(source=source, source_checksum="00", entry_start=0, entry_stop=3, counts={"events": 3}, outputs=outputs)


def manifest_of(units: Sequence[Unit], config: str = "1f") -> Manifest:
    about = {"what": "a configuration long enough for its manifest to be larger than any stub" * 4}
    return Manifest(stage="test", config_hash=config, config=about, code=1, units=in_order(units), code_version="v1")


def described(source: str, config: str = "1f") -> OutputFile:
    content = source.encode() * 50
    return OutputFile(path=unit_name(source, config), bytes=len(content), checksum=f"{zlib.adler32(content):08x}")


UNDISTURBED = manifest_of([unit_of(s, described(s)) for s in SOURCES]).to_bytes()


def with_past(story: Story) -> Story:
    """An old manifest and its successor, both from days ago, and what a killed run left then."""
    story.store.clock = START - 3 * DAY
    for number, config in enumerate(("old", "1f")):
        file = described("a", config)
        story.store.objects[f"out/{file.path}"] = (b"a" * 50, story.store.clock)
        story.store.put(f"out/{manifest_name(number)}", manifest_of([unit_of("a", file)], config).to_bytes())
    left = described("b")
    story.store.objects[f"out/{left.path}"] = (b"b" * 50, story.store.clock)
    record = unit_of("b", left).model_dump_json().encode()
    story.store.objects[f"out/{RECORDS}/{left.path}.json"] = (record, story.store.clock)
    story.store.clock = START
    story.store.forget_past()
    return story
