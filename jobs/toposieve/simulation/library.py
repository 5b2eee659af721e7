"""Making and finding the pile-up library of a base folder: one for all samples, partitions and later runs.

{base}/raw/_pileup/{hash}/block-00000.npy, ..., manifest.json
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toposieve.config import SimulationConfig
from toposieve.errors import ConflictError
from toposieve.io.manifests import Manifest, Publication, Unit, describe_file, read_manifest, reusable_units
from toposieve.simulation.failures import attempt, result_of
from toposieve.simulation.pileup import BLOCK_EVENTS, LibraryFiles, generate_block
from toposieve.simulation.seeds import derive_seed
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
    folder: Path

    @property
    def source(self) -> str:
        """Where the block comes from, for the manifest."""
        return f"block {self.index}: pythia seed {self.seed}"


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
    return hashlib.blake2b(json.dumps(library_config(config)).encode(), digest_size=8).hexdigest()


def ensure_library(spark: SparkSession, base: Path, config: SimulationConfig) -> LibraryFiles:
    """The library that ``config`` asks for; made on Spark, one task a block, where it is missing or damaged."""
    directory = base / "raw" / "_pileup" / library_hash(config)
    with Publication(directory) as publication:
        kept = reusable_units(directory, publication.previous, library_hash(config))
        missing = _missing_blocks(config, kept, publication.staging)
        if missing:
            _make_blocks(spark, publication, config, kept, missing)
        else:
            logger.info("pile-up library: %s is there", directory)
    manifest = read_manifest(directory)
    paths = tuple(directory / file.path for file in manifest.outputs())
    return LibraryFiles(paths, tuple(unit.counts["events"] for unit in manifest.units))


def _missing_blocks(config: SimulationConfig, kept: list[Unit], folder: Path) -> list[BlockTask]:
    tasks = [
        BlockTask(index, events, derive_seed(config.seed, "pileup", index), folder)
        for index, events in enumerate(block_sizes(config.pileup_library_events))
    ]
    there = {unit.source for unit in kept}
    return [task for task in tasks if task.source not in there]


def _make_blocks(
    spark: SparkSession, publication: Publication, config: SimulationConfig, kept: list[Unit], missing: list[BlockTask]
) -> None:
    events = sum(task.events for task in missing)
    logger.info("pile-up library: making %s minimum-bias events for %s", f"{events:,}", publication.directory)
    started = time.monotonic()
    outcomes = spark.sparkContext.parallelize(missing, len(missing)).map(attempt(make_block)).collect()
    made = [result_of(outcome) for outcome in outcomes]
    manifest = Manifest(
        stage="pileup",
        config_hash=library_hash(config),
        config=library_config(config),
        units=tuple(sorted([*kept, *made], key=lambda unit: unit.outputs[0].path)),
        code_version=code_version(),
    )
    try:
        publication.publish(manifest, [file for unit in made for file in unit.outputs])
    except ConflictError:
        logger.info("another run made the same library meanwhile; taking that one")
    seconds = time.monotonic() - started
    logger.info("pile-up library: %s events in %.0f s", f"{events:,}", seconds)


def make_block(task: BlockTask) -> Unit:
    """Generate and write one block."""
    path = task.folder / f"block-{task.index:05d}.npy"
    content = io.BytesIO()  # written to a file by numpy, a block on a full disk is an error that does not say so
    np.save(content, generate_block(task.seed, task.events))
    path.write_bytes(content.getbuffer())
    return Unit(
        source=task.source,
        source_checksum="",
        entry_start=0,
        entry_stop=task.events,
        counts={"events": task.events},
        outputs=(describe_file(path, task.folder),),
    )
