"""Making and finding the pile-up library below a ``raw`` folder: one for all samples, partitions and later runs.

{raw}/_pileup/{hash}/block-00000-0123456789ab.npy, ..., manifest-000001.json
"""

from __future__ import annotations

import io
import json
import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import SimulationConfig
from toposieve.io.manifests import Manifest, Unit, in_order
from toposieve.io.names import unit_name
from toposieve.io.publication import Publication
from toposieve.io.store import Key
from toposieve.io.units import Finished, adopt_or_make
from toposieve.simulation.pileup import BLOCK_EVENTS, LibraryFiles, generate_block
from toposieve.simulation.seeds import series_seed
from toposieve.spark.run import run_on_spark
from toposieve.text_hash import text_hash
from toposieve.version import code_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BlockTask:
    """One block of the library."""

    index: int
    events: int
    seed: int
    folder: Key
    """The library's folder, named by :func:`library_hash`."""
    adopt: bool = True
    """Whether to take what an earlier run has left."""

    @property
    def name(self) -> str:
        """The block's file. No other content ever gets its name."""
        identity = (CODE_NUMBERS["simulate"], self.folder.name)
        return unit_name(f"block-{self.index:05d}.npy", "pileup", *identity, suffix=".npy")

    @property
    def source(self) -> str:
        """Where the block comes from, for the manifest."""
        return f"block {self.index:05d}: pythia seed {self.seed}"


def block_sizes(n_events: int) -> list[int]:
    """Events in each block of a library.

    >>> block_sizes(6000)
    [2500, 2500, 1000]
    """
    full, rest = divmod(n_events, BLOCK_EVENTS)
    return [BLOCK_EVENTS] * full + ([rest] if rest else [])


def library_config(config: SimulationConfig) -> dict[str, int]:
    """What the library's content depends on: neither partition, nor sample, nor the amount of pile-up."""
    return {"seed": config.seed, "events": config.pileup_library_events, "block_events": BLOCK_EVENTS}


def library_hash(config: SimulationConfig) -> str:
    """Name of the library's folder."""
    return text_hash(json.dumps(library_config(config)))


def library_folder(raw: Key, config: SimulationConfig) -> Key:
    """Where the library lies."""
    return raw / "_pileup" / library_hash(config)


def ensure_library(spark: SparkSession, raw: Key, config: SimulationConfig, *, recompute: bool = False) -> LibraryFiles:
    """The library that ``config`` asks for; made on Spark, one task a block, where it is missing or cut short.

    Args:
        spark: The session.
        raw: Folder of all samples.
        config: The simulation's.
        recompute: Make it anew though it is there.

    Raises:
        InvalidInputError: The folder cannot be made or written to.
        OSError: A task could not write.
    """
    folder = library_folder(raw, config)
    with Publication(folder) as publication:
        kept = [] if recompute else publication.reusable(library_hash(config), CODE_NUMBERS["simulate"])
        there = {unit.source for unit in kept}
        missing = [task for task in _tasks(config, folder, adopt=not recompute) if task.source not in there]
        if missing:
            units = in_order([*kept, *_make_blocks(spark, missing)])
            # Another run may have been faster: its blocks are the same.
            units = publication.publish(_manifest(config, units)).units
        else:
            logger.info("pile-up library: %s is there", folder)
            units = in_order(kept)
    blocks = tuple(folder / file.path for unit in units for file in unit.outputs)
    return LibraryFiles(blocks, tuple(unit.counts["events"] for unit in units))


def _tasks(config: SimulationConfig, folder: Key, *, adopt: bool) -> list[BlockTask]:
    return [
        BlockTask(index, events, series_seed(index, config.seed, "pileup"), folder, adopt)
        for index, events in enumerate(block_sizes(config.pileup_library_events))
    ]


def _make_blocks(spark: SparkSession, tasks: list[BlockTask]) -> list[Unit]:
    events = sum(task.events for task in tasks)
    logger.info("pile-up library: making %s minimum-bias events for %s", f"{events:,}", tasks[0].folder)
    started = time.monotonic()
    results: list[Finished] = list(run_on_spark(spark, make_item, tasks, name="pile-up library").results.values())
    if adopted := sum(finished.adopted for finished in results):
        logger.info("pile-up library: %d of %d blocks were left by an earlier run", adopted, len(tasks))
    logger.info("pile-up library: %s events in %.0f s", f"{events:,}", time.monotonic() - started)
    return [finished.unit for finished in results]


def _manifest(config: SimulationConfig, units: tuple[Unit, ...]) -> Manifest:
    return Manifest(
        stage="pileup",
        config_hash=library_hash(config),
        config=library_config(config),
        code=CODE_NUMBERS["simulate"],
        units=units,
        code_version=code_version(),
    )


def make_item(task: BlockTask) -> Finished:
    """Make one block and its record, unless they are there."""
    return adopt_or_make(task.folder, task.name, partial(make_block, task), adopt=task.adopt)


def make_block(task: BlockTask, path: Path) -> Unit:
    """Generate and write one block; its record has no outputs yet."""
    content = io.BytesIO()  # written to a file by numpy, a block on a full disk is an error that does not say so
    np.save(content, generate_block(task.seed, task.events))
    path.write_bytes(content.getvalue())
    counts = {"events": task.events}
    return Unit(
        source=task.source, source_checksum="", entry_start=0, entry_stop=task.events, counts=counts, outputs=()
    )
