"""All samples of one partition: what is there, what to make, on Spark, and its publication."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toposieve.config import Sample, SimulationConfig
from toposieve.io.manifests import (
    Manifest,
    Publication,
    Unit,
    check_same_config,
    reusable_units,
    write_timing,
)
from toposieve.simulation.failures import attempt, result_of
from toposieve.simulation.files import FileTask, simulate_file
from toposieve.simulation.library import ensure_library, library_hash
from toposieve.simulation.pileup import LibraryFiles
from toposieve.simulation.schedule import SampleProgress, run_schedule
from toposieve.version import code_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SLOWEST_FIRST: tuple[Sample, ...] = ("qcd", "ttbar", "wjets")
FILE_SHARE: dict[str, float] = {"qcd": 0.4, "ttbar": 1.0, "wjets": 1.0}
"""Events in a sample's files, in units of ``events_per_file``: an event of qcd takes ten times as long."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Campaign:
    """What to simulate, and where it goes."""

    base: Path
    partition: str
    config: SimulationConfig

    def directory(self, sample: str) -> Path:
        """Output directory of a sample."""
        return self.base / "raw" / sample / self.partition

    def sample_config(self, sample: Sample) -> SimulationConfig:
        """The configuration that decides a sample's content: nothing of the other samples is part of it."""
        qcd_fast = self.config.qcd_fast and sample == "qcd"
        return self.config.model_copy(update={"samples": (sample,), "qcd_fast": qcd_fast})

    def events_in_file(self, sample: str) -> int:
        """Events in each file of a sample (see :data:`FILE_SHARE`)."""
        return max(1, round(self.config.events_per_file * FILE_SHARE[sample]))

    def task(self, sample: Sample, index: int, folder: Path, library: LibraryFiles | None) -> FileTask:
        """One file of a sample."""
        return FileTask(
            sample=sample,
            partition=self.partition,
            index=index,
            events=self.events_in_file(sample),
            config=self.config,
            library=library,
            folder=folder,
        )


@dataclass(frozen=True)
class OpenSample:
    """A sample's output, open for publication, and how far it is."""

    sample: Sample
    publication: Publication
    progress: SampleProgress


def open_samples(campaign: Campaign, stack: ExitStack, *, replace: bool) -> list[OpenSample]:
    """Open every sample's output, slow samples first, and see what earlier runs left there.

    Args:
        campaign: What to simulate.
        stack: Closes the outputs again.
        replace: Make output of another configuration anew.

    Raises:
        InvalidInputError: There is output of another configuration and ``replace`` is false, or no folder can be made.
    """
    samples = [sample for sample in SLOWEST_FIRST if sample in campaign.config.samples]
    return [_open_sample(campaign, sample, stack, replace=replace) for sample in samples]


def _open_sample(campaign: Campaign, sample: Sample, stack: ExitStack, *, replace: bool) -> OpenSample:
    directory, config_hash = campaign.directory(sample), campaign.sample_config(sample).hash
    publication = stack.enter_context(Publication(directory))
    check_same_config(directory, publication.previous, config_hash, replace=replace)
    kept = reusable_units(directory, publication.previous, config_hash)
    progress = SampleProgress(
        sample,
        target=campaign.config.selected_events,
        events_per_file=campaign.events_in_file(sample),
        finished={file_index(unit): unit for unit in kept},
    )
    return OpenSample(sample, publication, progress)


def simulate_samples(spark: SparkSession, campaign: Campaign, samples: list[OpenSample]) -> int:
    """Make what is missing, and publish each sample as soon as it is complete.

    Returns:
        Events made.

    Raises:
        InvalidInputError: A sample has no event that passes the selection.
        OSError: A task could not write.
        ConflictError: Another run published one of the samples meanwhile.
    """
    library = ensure_library(spark, campaign.base, campaign.config) if campaign.config.pileup > 0 else None
    by_name = {sample.sample: sample for sample in samples}
    already = {name: set(sample.progress.finished) for name, sample in by_name.items()}
    started: dict[Sample, float] = {}
    made = 0
    with _job_pool(spark) as pool:

        def submit(sample: Sample, index: int) -> Future[Unit]:
            started.setdefault(sample, time.monotonic())
            folder = by_name[sample].publication.staging
            return pool.submit(_run_on_spark, spark, campaign.task(sample, index, folder, library))

        progress = [sample.progress for sample in samples]
        for name, files in run_schedule(progress, submit, slots=spark.sparkContext.defaultParallelism):
            new = [unit for unit in files if file_index(unit) not in already[name]]
            publish_sample(campaign, by_name[name], files, new, seconds=time.monotonic() - started[name])
            made += sum(unit.counts["events"] for unit in new)
    return made


@contextmanager
def _job_pool(spark: SparkSession) -> Iterator[ThreadPoolExecutor]:
    """Threads that each wait for one Spark job; what still runs in the end is of no use and is cancelled."""
    pool = ThreadPoolExecutor(spark.sparkContext.defaultParallelism, thread_name_prefix="simulate")
    try:
        yield pool
    finally:
        spark.sparkContext.cancelAllJobs()
        pool.shutdown(cancel_futures=True)


def _run_on_spark(spark: SparkSession, task: FileTask) -> Unit:
    outcomes = spark.sparkContext.parallelize([task], 1).map(attempt(simulate_file)).collect()
    return result_of(outcomes[0])


def publish_sample(
    campaign: Campaign, sample: OpenSample, files: list[Unit], new: list[Unit], *, seconds: float
) -> None:
    """Publish a complete sample.

    Args:
        campaign: What is simulated.
        sample: The sample; its staging directory holds the new files.
        files: Records of all its files.
        new: Records of those made now.
        seconds: How long that took, from the start of its first file.
    """
    config = campaign.sample_config(sample.sample)
    library = {"pileup_library": f"raw/_pileup/{library_hash(config)}"} if config.pileup > 0 else {}
    manifest = Manifest(
        stage="simulation",
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        units=tuple(files),
        extra=library,
        code_version=code_version(),
    )
    sample.publication.publish(manifest, [file for unit in new for file in unit.outputs])
    events = sum(unit.counts["events"] for unit in new)
    write_timing(sample.publication.directory, seconds=seconds, events=events)
    logger.info(
        "%s: %s selected of %s events in %d files, %s",
        sample.sample,
        f"{manifest.total('selected'):,}",
        f"{manifest.total('events'):,}",
        len(files),
        sample.publication.directory,
    )


def file_index(unit: Unit) -> int:
    """Number of the file that a record describes."""
    return int(Path(unit.outputs[0].path).stem.rpartition("-")[2])
