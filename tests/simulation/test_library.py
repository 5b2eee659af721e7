"""The pile-up library of a base folder."""

import errno

import numpy as np
import pytest

from toposieve.config import SimulationConfig
from toposieve.io.manifests import read_manifest
from toposieve.simulation.library import BlockTask, block_sizes, ensure_library, library_hash, make_block
from toposieve.simulation.pileup import load_library

CONFIG = SimulationConfig(pileup_library_events=12)


@pytest.mark.parametrize(("events", "sizes"), [(1, [1]), (2500, [2500]), (2501, [2500, 1]), (5000, [2500, 2500])])
def test_blocks(events, sizes):
    assert block_sizes(events) == sizes


@pytest.mark.parametrize("same", [{"pileup": 50.0}, {"samples": ("qcd",)}, {"selected_events": 7}, {"qcd_fast": True}])
def test_the_library_is_shared_where_it_can_be(same):
    assert library_hash(CONFIG.model_copy(update=same)) == library_hash(CONFIG)


@pytest.mark.parametrize("other", [{"seed": 2}, {"pileup_library_events": 13}])
def test_another_seed_or_size_is_another_library(other):
    assert library_hash(CONFIG.model_copy(update=other)) != library_hash(CONFIG)


def test_a_full_disk_is_an_error_that_says_so(tmp_path):
    (tmp_path / "block-00000.npy").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        make_block(BlockTask(index=0, events=1, seed=1, folder=tmp_path))
    assert caught.value.errno == errno.ENOSPC


def test_the_library_is_made_once_and_mended(spark, tmp_path):
    made = ensure_library(spark, tmp_path, CONFIG)
    assert len(load_library(made)) == 12
    content, modified = made.paths[0].read_bytes(), made.paths[0].stat().st_mtime_ns
    assert ensure_library(spark, tmp_path, CONFIG) == made
    assert made.paths[0].stat().st_mtime_ns == modified
    made.paths[0].write_bytes(content[:-8])
    assert ensure_library(spark, tmp_path, CONFIG) == made
    assert made.paths[0].read_bytes() == content
    directory = tmp_path / "raw" / "_pileup" / library_hash(CONFIG)
    assert read_manifest(directory).total("events") == 12
    assert np.load(made.paths[0])["event"].max() < 12
