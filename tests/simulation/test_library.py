"""The pile-up library below a folder of raw files."""

import dataclasses
import errno
from pathlib import Path

import numpy as np
import pytest

from support.on_spark import run_here
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import SimulationConfig
from toposieve.io.manifests import read_manifest
from toposieve.io.store import Key
from toposieve.simulation import library
from toposieve.simulation.library import (
    BlockTask,
    block_sizes,
    ensure_library,
    library_folder,
    library_hash,
    make_block,
)
from toposieve.simulation.pileup import LIBRARY_DTYPE, load_library

CONFIG = SimulationConfig(pileup_library_events=12)


@pytest.fixture
def raw(tmp_path):
    return Key(str(tmp_path))


@pytest.fixture
def made(monkeypatch):
    """Seeds of the blocks that are generated, of five events at most."""
    seeds = []

    def fake_block(seed, n_events):
        seeds.append(seed)
        return np.zeros(n_events, LIBRARY_DTYPE)

    monkeypatch.setattr(library, "run_on_spark", run_here)
    monkeypatch.setattr(library, "generate_block", fake_block)
    monkeypatch.setattr(library, "BLOCK_EVENTS", 5)
    return seeds


def files_of(raw: Key) -> dict[str, bytes]:
    return {name: (raw / name).read_bytes() for name in raw.list()}


@pytest.mark.parametrize(("events", "sizes"), [(1, [1]), (2500, [2500]), (2501, [2500, 1]), (5000, [2500, 2500])])
def test_blocks(events, sizes):
    assert block_sizes(events) == sizes


@pytest.mark.parametrize("same", [{"pileup": 50.0}, {"samples": ("qcd",)}, {"selected_events": 7}, {"qcd_fast": True}])
def test_the_library_is_shared_where_it_can_be(same):
    assert library_hash(CONFIG.model_copy(update=same)) == library_hash(CONFIG)


@pytest.mark.parametrize("other", [{"seed": 2}, {"pileup_library_events": 13}])
def test_another_seed_or_size_is_another_library(other):
    assert library_hash(CONFIG.model_copy(update=other)) != library_hash(CONFIG)


def test_other_content_of_a_block_has_another_name(monkeypatch):
    task = BlockTask(index=0, events=1, seed=1, folder=Key("/raw", "_pileup/aa"))
    others = [dataclasses.replace(task, index=1), dataclasses.replace(task, folder=Key("/raw", "_pileup/bb"))]
    names = {task.name, *(other.name for other in others)}
    monkeypatch.setitem(CODE_NUMBERS, "simulate", 1000)
    assert len({*names, task.name}) == 4


def test_a_full_disk_is_an_error_that_says_so():
    with pytest.raises(OSError, match="No space left") as caught:
        make_block(BlockTask(index=0, events=1, seed=1, folder=Key("/raw")), Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC


def test_the_library_is_made_once_and_mended(spark, raw):
    made = ensure_library(spark, raw, CONFIG)
    assert len(load_library(made)) == 12
    block = made.blocks[0]
    content, version = block.read_bytes(), block.stat().version
    assert ensure_library(spark, raw, CONFIG) == made
    assert block.stat().version == version
    block.write_bytes(content[:-8])
    assert ensure_library(spark, raw, CONFIG) == made
    assert block.read_bytes() == content
    assert read_manifest(library_folder(raw, CONFIG)).total("events") == 12
    with block.fetch() as path:
        assert np.load(path)["event"].max() < 12


def test_blocks_that_a_killed_run_left_are_adopted(raw, made, monkeypatch, caplog):
    def killed(spark, function, items, **options):
        run_here(spark, function, items[:2], **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(library, "run_on_spark", killed)
        with pytest.raises(KeyboardInterrupt):
            ensure_library(None, raw, CONFIG)
    with caplog.at_level("INFO"):
        files = ensure_library(None, raw, CONFIG)
    assert files.sizes == (5, 5, 2)
    assert len(made) == len(set(made)) == 3
    assert "2 of 3 blocks were left by an earlier run" in caplog.text


def test_of_two_runs_at_once_the_loser_takes_the_library_of_the_winner(raw, made, monkeypatch):
    winners = []

    def overtaken(*arguments, **options):
        monkeypatch.setattr(library, "run_on_spark", run_here)
        outcome = run_here(*arguments, **options)
        winners.append(ensure_library(None, raw, CONFIG, recompute=True))
        return outcome

    monkeypatch.setattr(library, "run_on_spark", overtaken)
    assert [ensure_library(None, raw, CONFIG)] == winners
    folder = library_folder(raw, CONFIG)
    assert list(folder.list("manifest")) == ["manifest-000001.json"]


def test_made_anew_it_is_the_same(raw, made):
    files = ensure_library(None, raw, CONFIG)
    before = {name: content for name, content in files_of(raw).items() if "manifest" not in name}
    assert ensure_library(None, raw, CONFIG, recompute=True) == files
    assert len(made) == 6
    assert {name: content for name, content in files_of(raw).items() if "manifest" not in name} == before
