"""Every order in which several actors may act on one store, up to a number of pre-emptions.

Actors are functions, run in greenlets, so the code under test is the real one. Each operation of the store is a point
at which another may go on. To leave an actor that could go on is a pre-emption; orders with fewer come first, and a
state that was met before, the same in the store and in all that each actor has been told, is not explored again. Orders
are replayed from the beginning, so actors must be deterministic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from greenlet import GreenletExit, getcurrent, greenlet

from support.memory_store import MemoryStore

DAY = 25 * 3600.0
Order = tuple[int, ...]
"""Which actor does the next operation, from the beginning."""

LOOKS = ("", "stat", "read")
LONGEST = 2000
"""Operations in one order: nobody waits for ever."""


class Died(GreenletExit):
    """An actor was killed: whatever it does then has no effect."""


@dataclass
class Actor:
    """One process, or an event that happens once."""

    name: str
    act: Callable[[], None]
    event: bool = False
    """Whether it is something that happens to the others rather than a process."""
    error: BaseException | None = None
    told: int = 0
    """Changes with every answer of the store."""
    wakes: float | None = None
    """When it ends its sleep."""
    slept_at: int = 0
    """Changes of the store when it went to sleep."""
    dead: bool = False
    pending: tuple[str, str] = ("", "")
    """The operation that it is about to do."""
    process: greenlet = field(init=False)

    @property
    def over(self) -> bool:
        return self.dead or self.process.dead


class World(Protocol):
    """One story, from its beginning."""

    store: MemoryStore
    actors: Sequence[Actor]

    def allowed(self, actor: Actor) -> bool:
        """Whether an actor may act now."""
        ...

    def check(self) -> None:
        """Assert what has to hold after all is over."""
        ...


@dataclass
class Count:
    """What an exploration has seen."""

    orders: int = 0
    """Run to their end."""
    replays: int = 0
    states: int = 0
    exhausted: bool = True


class Violation(AssertionError):
    """Something that must not happen; the message has the order of operations."""


class _Shared:
    """Which operations another actor may notice: to leave an actor before any other is the same as to leave it later.

    It is learnt on the way, so what was not worth leaving an actor for is kept until it is.
    """

    def __init__(self) -> None:
        self._read: dict[str, set[str]] = {}
        self._written: dict[str, set[str]] = {}
        self._listed: dict[str, set[str]] = {}
        self._waiting: dict[tuple[str, str, str], list[tuple[int, Order]]] = {}

    def touch(self, name: str, verb: str, key: str) -> list[tuple[int, Order]]:
        """An actor does this; what is worth exploring now, and at which number of pre-emptions."""
        touched = self._table(verb).setdefault(key, set())
        if name in touched:
            return []
        touched.add(name)
        found = [each for each in self._waiting if self.noticed(*each)]
        return [order for each in found for order in self._waiting.pop(each)]

    def wait(self, name: str, verb: str, key: str, order: tuple[int, Order]) -> None:
        """Keep an order until the operation is shared."""
        self._waiting.setdefault((name, verb, key), []).append(order)

    def noticed(self, name: str, verb: str, key: str) -> bool:
        """Whether any other actor has done what does not commute with this."""
        if verb == "sleeps":
            return True
        if verb in LOOKS:
            return self._others(name, self._written.get(key, ()))
        if verb == "list":
            return any(self._others(name, who) for other, who in self._written.items() if other.startswith(key))
        touched = (self._read.get(key, ()), self._written.get(key, ()))
        listed = (who for prefix, who in self._listed.items() if key.startswith(prefix))
        return any(self._others(name, who) for who in (*touched, *listed))

    def _table(self, verb: str) -> dict[str, set[str]]:
        return self._listed if verb == "list" else self._read if verb in LOOKS else self._written

    @staticmethod
    def _others(name: str, who: Collection[str]) -> bool:
        return len(who) > (name in who)


def explore(make: Callable[[], World], *, preemptions: int, seconds: float) -> Count:
    """Run all orders up to a number of pre-emptions, those with fewer first.

    Args:
        make: Makes the world anew.
        preemptions: How often an actor is left that could go on.
        seconds: Give up after this time; the count says so.

    Raises:
        Violation: Something that must not happen.
    """
    count, shared, met = Count(), _Shared(), dict[int, int]()
    levels: list[list[Order]] = [[()], *([] for _ in range(preemptions))]
    end = time.perf_counter() + seconds
    while any(levels):
        if time.perf_counter() > end:
            count.exhausted = False
            break
        used = next(used for used, level in enumerate(levels) if level)
        run = _Run(make(), levels[used].pop(), used, preemptions, met, shared)
        run.go()
        count.replays += 1
        count.orders += run.complete
        for level, order in run.alternatives:
            levels[level].append(order)
    count.states = len(met)
    return count


def run_in_order(make: Callable[[], World], prefix: Sequence[int]) -> World:
    """One order again, for example that of a violation."""
    run = _Run(make(), tuple(prefix), 0, 0, {}, _Shared())
    run.go()
    return run.world


class _Run:
    def __init__(
        self, world: World, prefix: Order, used: int, preemptions: int, met: dict[int, int], shared: _Shared
    ) -> None:
        self.world = world
        self.prefix = prefix
        self.used = used
        self.preemptions = preemptions
        self.met = met
        self.shared = shared
        self.choices: list[int] = []
        self.alternatives: list[tuple[int, Order]] = []
        """Other orders to run, each with its number of pre-emptions."""
        self.complete = False
        self.trace: list[str] = []
        self.current = -1
        self.hub = getcurrent()
        store = world.store
        self.by_process: dict[greenlet, Actor] = {}
        store.client, store.point, store.observed, store.sleep = self._name, self._point, self._observed, self._sleep
        for actor in world.actors:
            actor.process = greenlet(lambda actor=actor: self._act(actor))
            self.by_process[actor.process] = actor

    def go(self) -> None:
        try:
            self.complete = self._steps()
            if self.complete:
                self.world.check()
        except AssertionError as error:
            raise Violation(f"{error}\norder {self.choices}:\n" + "\n".join(self.trace)) from error
        finally:
            for actor in self.world.actors:
                self._kill(actor)

    def _steps(self) -> bool:
        while able := self._able():
            assert len(self.choices) < LONGEST, "somebody waits for ever"
            chosen = self._choose(able)
            if chosen is None:
                return False
            actor = self.world.actors[chosen]
            self.choices.append(chosen)
            self.current = chosen
            if actor.wakes is not None:
                self.world.store.clock = max(self.world.store.clock, actor.wakes)
                actor.wakes = None
            self.trace.append(f"{actor.name}: {' '.join(actor.pending).strip() or 'begins'}")
            self.alternatives += self.shared.touch(actor.name, *actor.pending)
            actor.process.switch()
        return True

    def _choose(self, able: list[int]) -> int | None:
        going_on = self.current in able
        default = self.current if going_on else able[0]
        step = len(self.choices)
        if step < len(self.prefix):
            return self.prefix[step]
        current = self.current if going_on else -1
        state = hash((self.world.store.state(), current, *(self._state(actor) for actor in self.world.actors)))
        left = self.preemptions - self.used
        if self.met.get(state, -1) >= left:
            return None
        self.met[state] = left
        for other in able:
            if other != default and left >= going_on:
                self._put_off(other, going_on)
        return default

    def _put_off(self, other: int, going_on: bool) -> None:
        actors = self.world.actors
        order = self.used + going_on, (*self.choices, other)
        about = actors[self.current].name, *actors[self.current].pending
        if not going_on or actors[other].event or self.shared.noticed(*about):
            self.alternatives.append(order)
        else:
            self.shared.wait(*about, order)

    def _state(self, actor: Actor) -> tuple[int, bool, float | None, bool]:
        return actor.told, actor.over, actor.wakes, self._is_awake(actor)

    def _able(self) -> list[int]:
        store, actors = self.world.store, self.world.actors
        alive = [i for i, actor in enumerate(actors) if not actor.over and self.world.allowed(actor)]
        awake = [i for i in alive if self._is_awake(actors[i])]
        if awake:
            return awake
        sleeping = [i for i in alive if actors[i].wakes is not None]
        return [min(sleeping, key=lambda i: actors[i].wakes or store.clock)] if sleeping else []

    def _is_awake(self, actor: Actor) -> bool:
        store = self.world.store
        return actor.wakes is None or actor.wakes <= store.clock or actor.slept_at != store.changes

    def _act(self, actor: Actor) -> None:
        try:
            actor.act()
        except AssertionError:
            raise
        except Exception as error:
            actor.error = error
            self.trace.append(f"{actor.name}: fails with {type(error).__name__}: {error}")

    def _name(self) -> str:
        actor = self.by_process.get(getcurrent())
        return actor.name if actor else ""

    def _observed(self, result: object) -> None:
        actor = self.by_process.get(getcurrent())
        if actor:
            actor.told = hash((actor.told, result))

    def _point(self, verb: str, key: str) -> None:
        actor = self.by_process.get(getcurrent())
        if actor is None:
            return
        if actor.dead:
            raise Died
        actor.told = hash((actor.told, verb, key))
        actor.pending = (verb, key)
        self.hub.switch()

    def _sleep(self, seconds: float) -> None:
        actor = self.by_process.get(getcurrent())
        if actor is None:
            self.world.store.clock += seconds
            return
        if actor.dead:
            raise Died
        actor.wakes, actor.slept_at = self.world.store.clock + seconds, self.world.store.changes
        self._point("sleeps", f"{seconds:.0f} s")

    def _kill(self, actor: Actor) -> None:
        actor.dead = True
        if actor.process and not actor.process.dead:
            actor.process.throw(Died)
