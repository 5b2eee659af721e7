"""All samples of one partition: what is there, what to make, on Spark, and its publication."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toposieve import schema
from toposieve.classes import CLASSES
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import Sample, SimulationConfig
from toposieve.io.manifests import Manifest, Unit, in_order
from toposieve.io.publication import Publication, check_same_config, is_up_to_date, write_timing
from toposieve.io.store import Key
from toposieve.io.units import Finished
from toposieve.simulation.files import FileTask, simulate_item
from toposieve.simulation.library import ensure_library, library_hash
from toposieve.simulation.pileup import LibraryFiles
from toposieve.simulation.schedule import SampleProgress, run_schedule
from toposieve.spark.run import job_pool, run_on_spark
from toposieve.version import code_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Campaign:
    """What to simulate, and where it goes."""

    raw: Key
    """Folder of all samples."""
    partition: str
    config: SimulationConfig
    recompute: bool = False
    """Make everything anew, whatever is there."""

    @property
    def samples(self) -> list[Sample]:
        """Its samples, slow ones first."""
        return sorted(
            self.config.samples, key=lambda sample: (CLASSES[sample].file_share, schema.SAMPLES.index(sample))
        )

    def directory(self, sample: str) -> Key:
        """Output folder of a sample."""
        return self.raw / sample / self.partition

    def sample_config(self, sample: Sample) -> SimulationConfig:
        """The configuration that decides a sample's content: nothing of the other samples is part of it."""
        qcd_fast = self.config.qcd_fast and sample == "qcd"
        return self.config.model_copy(update={"samples": (sample,), "qcd_fast": qcd_fast})

    def events_in_file(self, sample: str) -> int:
        """Events in each file of a sample (see :class:`~toposieve.classes.EventClass`)."""
        return max(1, round(self.config.events_per_file * CLASSES[sample].file_share))

    def task(self, sample: Sample, index: int, library: LibraryFiles | None) -> FileTask:
        """One file of a sample."""
        return FileTask(
            sample=sample,
            partition=self.partition,
            index=index,
            events=self.events_in_file(sample),
            config=self.sample_config(sample),
            library=library,
            folder=self.directory(sample),
            adopt=not self.recompute,
        )


@dataclass(frozen=True)
class OpenSample:
    """A sample's output, open for publication, and how far it is."""

    sample: Sample
    publication: Publication
    progress: SampleProgress


def open_sample(campaign: Campaign, sample: Sample, publication: Publication, *, replace: bool) -> OpenSample:
    """See what earlier runs published of a sample.

    Args:
        campaign: What to simulate.
        sample: One of its samples.
        publication: The right to publish into the sample's folder.
        replace: Make output of another configuration anew.

    Raises:
        InvalidInputError: There is output of another configuration and ``replace`` is false.
    """
    config_hash = campaign.sample_config(sample).hash
    check_same_config(publication.folder, publication.previous, config_hash, replace=replace)
    kept = [] if campaign.recompute else publication.reusable(config_hash, CODE_NUMBERS["simulate"])
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
        ConflictError: Another run published one of the samples meanwhile, with another configuration.
    """
    library = None
    if campaign.config.pileup > 0:
        library = ensure_library(spark, campaign.raw, campaign.config, recompute=campaign.recompute)
    by_name = {sample.sample: sample for sample in samples}
    results: dict[Sample, dict[int, Finished]] = {name: {} for name in by_name}
    started: dict[Sample, float] = {}
    made = 0
    slots = spark.sparkContext.defaultParallelism
    with job_pool(spark, slots) as pool:

        def submit(sample: Sample, index: int) -> Future[Unit]:
            started.setdefault(sample, time.monotonic())
            return pool.submit(_run, spark, campaign.task(sample, index, library), results[sample])

        progress = [sample.progress for sample in samples]
        for name, files in run_schedule(progress, submit, slots=slots):
            seconds = time.monotonic() - started[name]
            made += publish_sample(campaign, by_name[name], files, list(results[name].values()), seconds=seconds)
    return made


def _run(spark: SparkSession, task: FileTask, results: dict[int, Finished]) -> Unit:
    """Make one file; a thread waits for it, and the log of the schedule says how far all of them are."""
    name = f"{task.sample} file {task.index}"
    finished: Finished = run_on_spark(spark, simulate_item, [task], name=name, quiet=True).results[0]
    results[task.index] = finished
    return finished.unit


def publish_sample(
    campaign: Campaign, sample: OpenSample, files: list[Unit], results: list[Finished], *, seconds: float
) -> int:
    """Publish a complete sample.

    Args:
        campaign: What is simulated.
        sample: The sample.
        files: Records of all its files.
        results: What this run made, or took from one that did not publish it; also what the sample does not need.
        seconds: How long that took, from the start of its first file.

    Returns:
        Events made by this run.
    """
    manifest = _manifest(campaign, sample.sample, files)
    if not is_up_to_date(sample.publication.previous, manifest):  # otherwise lost files have come back
        manifest = sample.publication.publish(manifest)
    needed = {unit.source for unit in files}
    results = [finished for finished in results if finished.unit.source in needed]
    events = sum(finished.unit.counts["events"] for finished in results if not finished.adopted)
    write_timing(sample.publication.folder, seconds=seconds, events=events)
    if adopted := sum(finished.adopted for finished in results):
        logger.info("%s: %d of %d files were left by an earlier run", sample.sample, adopted, len(files))
    logger.info(
        "%s: %s selected of %s events in %d files, %s",
        sample.sample,
        f"{manifest.total('selected'):,}",
        f"{manifest.total('events'):,}",
        len(manifest.units),
        sample.publication.folder,
    )
    return events


def _manifest(campaign: Campaign, sample: Sample, files: list[Unit]) -> Manifest:
    config = campaign.sample_config(sample)
    return Manifest(
        stage="simulation",
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        code=CODE_NUMBERS["simulate"],
        units=in_order(files),
        extra={"pileup_library": f"_pileup/{library_hash(config)}"} if config.pileup > 0 else {},
        code_version=code_version(),
    )


def file_index(unit: Unit) -> int:
    """Number of the file that a record describes."""
    return int(unit.outputs[0].path.rsplit("-", 2)[1])
