"""Publication, adoption and sweep in every order of their operations, on stores that behave as badly as they may."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from support.interleavings import DAY, Violation, explore
from support.memory_store import HDFS, NFS, NO_LINKS, POSIX, S3, Semantics
from support.publication_story import FOLDER, KEPT_HOURS, SOURCES, Story, described, in_memory, manifest_of, with_past
from toposieve.errors import ConflictError
from toposieve.io import manifests, sweep
from toposieve.io.names import unit_name
from toposieve.io.publication import Publication
from toposieve.io.store import Key, Stat
from toposieve.io.units import adopt_or_make

ALL = (POSIX, NFS, S3, HDFS, NO_LINKS)


@pytest.fixture(autouse=True, scope="module")
def _in_memory() -> Iterator[None]:
    with in_memory():
        yield


def two_writers(semantics: Semantics) -> Story:
    story = Story(semantics)
    story.writer("a", "ab")
    story.writer("b", "bc")
    return story


def three_writers(semantics: Semantics) -> Story:
    story = Story(semantics)
    story.writer("a", "a")
    story.writer("b", "b")
    story.writer("c", "b")
    return story


def sweep_and_reader(semantics: Semantics) -> Story:
    story = with_past(Story(semantics))
    story.writer("a", "abc")
    story.sweeper()
    story.reader()
    return story


def frozen_writer(semantics: Semantics) -> Story:
    story = with_past(Story(semantics))
    frozen = story.writer("a", "ab")
    story.sweeper()
    story.freezer(frozen)
    return story


def killed_writer(semantics: Semantics) -> Story:
    story = with_past(Story(semantics))
    killed = story.writer("a", "abc")
    story.writer("b", "abc")
    story.killer(killed)
    return story


def killed_sweep(semantics: Semantics) -> Story:
    story = with_past(Story(semantics))
    story.writer("b", "abc")
    story.killer(story.sweeper())
    return story


def frozen_sweep(semantics: Semantics) -> Story:
    story = with_past(Story(semantics))
    frozen = story.sweeper()
    story.writer("b", "abc")
    story.freezer(frozen)
    return story


STORIES = [two_writers, three_writers, sweep_and_reader, frozen_writer, killed_writer, killed_sweep, frozen_sweep]


THREE = [(two_writers, POSIX), (sweep_and_reader, POSIX), (frozen_writer, NFS)]
TWO = [two_writers, sweep_and_reader, frozen_writer]


def bound(story: Callable[[Semantics], Story], semantics: Semantics, *, everything: bool) -> int:
    """How many pre-emptions: as many as half a minute allows for all, or three of each in some minutes."""
    if everything or (story, semantics) in THREE:
        return 3
    return 2 if story in TWO and semantics in (POSIX, NFS) else 1


@pytest.mark.parametrize("semantics", ALL, ids=lambda semantics: semantics.name.replace(" ", "-"))
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_every_order(story: Callable[[Semantics], Story], semantics: Semantics, request: pytest.FixtureRequest) -> None:
    preemptions = bound(story, semantics, everything=request.config.getoption("--faults") == "all")
    count = explore(lambda: story(semantics), preemptions=preemptions, seconds=300)
    print(f"{story.__name__} on {semantics.name}, up to {preemptions} pre-emptions: {count.orders} orders")
    assert count.exhausted
    assert count.orders > 10


def is_caught(story: Callable[[Semantics], Story], semantics: Semantics = POSIX) -> bool:
    try:
        explore(lambda: story(semantics), preemptions=2, seconds=60)
    except Violation:
        return True
    return False


def test_a_publication_that_overwrites_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrite(key: Key, content: bytes) -> bool:
        key.write_bytes(content)
        return True

    monkeypatch.setattr(Key, "create_if_absent", overwrite)
    assert is_caught(two_writers)


def test_a_reader_that_does_not_probe_upwards_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def listed_only(folder: Key, entries: Mapping[str, Stat] | None = None, last: int = 0) -> list[int]:
        return manifests.manifest_numbers(folder.list(manifests.PREFIX) if entries is None else entries) or [last]

    monkeypatch.setattr(manifests, "all_numbers", listed_only)
    assert any(is_caught(story, NFS) for story in (two_writers, sweep_and_reader))


def test_a_sweep_that_ignores_signs_of_life_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "any_fresh", lambda signs, now: False)
    assert is_caught(sweep_and_reader)


def test_a_sweep_that_takes_no_number_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_take_number", lambda folder, now: None)
    assert is_caught(frozen_writer)


def test_a_sweep_that_leaves_no_stub_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_leave_stub", lambda key, stat: key.delete())
    assert is_caught(sweep_and_reader)


def test_contradicting_writers(caplog: pytest.LogCaptureFixture) -> None:
    """The second is told to run again, in whatever order; nothing is mixed."""
    story = Story(POSIX)
    with Publication(FOLDER) as run:
        story.write("b", "a")
        made = adopt_or_make(FOLDER, unit_name("a", "2e"), story.maker("c", "a", "2e")).unit
        with pytest.raises(ConflictError, match="run again"):
            run.publish(manifest_of([made], "2e"))
    newest = story.newest()
    assert newest
    assert newest.config_hash == "1f"


def test_a_clock_that_goes_back() -> None:
    story = with_past(Story(POSIX))
    with Publication(FOLDER, kept_hours=KEPT_HOURS):
        story.store.clock -= 7 * DAY
        sweep.sweep(FOLDER, kept_hours=0)
        assert f"out/{described('b').path}" in story.store.objects
    story.check()


def test_a_manifest_left_empty_by_a_crash() -> None:
    story = with_past(Story(NO_LINKS))
    story.store.put("out/manifest-000002.json", b"")
    story.store.clock += 7 * DAY
    sweep.sweep(FOLDER, kept_hours=0)
    story.check()
    assert story.newest_name() == "out/manifest-000003.json"


def test_a_lost_answer_does_not_make_a_second_manifest() -> None:
    story = Story(S3)
    story.store.client = lambda: "a"
    story.write("a", SOURCES)
    assert [key for key in story.store.objects if "manifest" in key] == ["out/manifest-000001.json"]
