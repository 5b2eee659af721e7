"""Which files to simulate next: as many as a sample needs, whatever the number of cores.

A sample consists of the shortest run of files from number 0 on whose selected events reach the target. How many that
will be shows only while they are made, so files are started one by one, and those beyond the last one are left for a
sweep to take.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from toposieve.config import Sample
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import Unit

PROGRESS_SECONDS = 5.0
HOPELESS_EVENTS = 2000
"""So many events without a selected one end the run."""

logger = logging.getLogger(__name__)


@dataclass
class SampleProgress:
    """State of one sample. What is asked of it takes the same time, however many files there are.

    Attributes:
        sample: Its name.
        target: Selected events wanted.
        events_per_file: Events in one file: no more of them can be selected.
        finished: File number → its record.
        running: How many files are being made.
    """

    sample: Sample
    target: int
    events_per_file: int
    finished: dict[int, Unit] = field(default_factory=dict)
    running: int = 0

    def __post_init__(self) -> None:
        """Count what is finished."""
        self._totals: Counter[str] = Counter()
        for unit in self.finished.values():
            self._totals.update(unit.counts)
        # Files below the first number are finished, those below the second started; and what the finished ones hold.
        self._whole = self._whole_selected = 0
        self._started = self._started_selected = 0

    def total(self, count: str) -> int:
        """Sum of one count over all finished files."""
        return self._totals[count]

    def files(self) -> list[Unit] | None:
        """The sample's files, or None while some are missing."""
        while self._whole_selected < self.target:
            unit = self.finished.get(self._whole)
            if unit is None:
                return None
            self._whole += 1
            self._whole_selected += unit.counts["selected"]
        return [self.finished[index] for index in range(self._whole)]

    def start_next(self) -> int | None:
        """The next file to make, which counts as running from now on; None when those running will probably do.

        While none has finished, every event of a running file counts as selected: so none is started in vain.
        """
        while self._started in self.finished:
            self._started_selected += self.finished[self._started].counts["selected"]
            self._started += 1
        mean = self.total("selected") / len(self.finished) if self.finished else self.events_per_file
        if self._started_selected + mean * self.running >= self.target:
            return None
        self.running += 1
        self._started += 1
        return self._started - 1

    def finish(self, index: int, unit: Unit) -> None:
        """Record a file that was running and now is finished.

        Raises:
            InvalidInputError: Nothing is ever selected.
        """
        self.running -= 1
        self.finished[index] = unit
        self._started_selected += unit.counts["selected"]
        self._totals.update(unit.counts)
        if self.total("selected") == 0 and self.total("events") >= HOPELESS_EVENTS:
            raise InvalidInputError(
                f"{self.sample}: none of {self.total('events'):,} simulated events passes the default selection; "
                "lower the key pileup"
            )


def run_schedule(
    samples: list[SampleProgress],
    submit: Callable[[Sample, int], Future[Unit]],
    slots: int,
) -> Iterator[tuple[Sample, list[Unit]]]:
    """Make files until every sample has what it needs, ``slots`` at a time, in the order of the samples.

    Args:
        samples: What to make; slow ones first, so that quick ones fill the gaps in the end.
        submit: Starts a file, given its sample and number.
        slots: Files made at a time.

    Yields:
        The name of each sample as soon as it is complete, and its files.
    """
    pending = list(samples)
    futures: dict[Future[Unit], tuple[SampleProgress, int]] = {}
    log = ProgressLog()
    while pending:
        while len(futures) < slots and (start := _next_file(pending)) is not None:
            progress, index = start
            log.begin(progress)
            futures[submit(progress.sample, index)] = start
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            progress, index = futures.pop(future)
            progress.finish(index, future.result())
            log.update(progress)
        for progress in list(pending):
            files = progress.files()
            if files is not None:
                pending.remove(progress)
                yield progress.sample, files


def _next_file(samples: list[SampleProgress]) -> tuple[SampleProgress, int] | None:
    for progress in samples:
        index = progress.start_next()
        if index is not None:
            return progress, index
    return None


class ProgressLog:
    """Logs how far each sample is, at most every :data:`PROGRESS_SECONDS`.

    Args:
        clock: Time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has begun yet."""
        self._clock = clock
        self._begun: dict[str, _Begun] = {}
        self._logged: dict[str, float] = {}

    def begin(self, progress: SampleProgress) -> None:
        """Note that a file of a sample is started; the first time starts the sample's clock."""
        begun = _Begun(self._clock(), progress.total("events"), progress.total("selected"))
        self._logged.setdefault(progress.sample, begun.time)
        self._begun.setdefault(progress.sample, begun)

    def update(self, progress: SampleProgress) -> None:
        """Note that a file of a sample is finished."""
        now = self._clock()
        if now - self._logged[progress.sample] >= PROGRESS_SECONDS:
            self._logged[progress.sample] = now
            logger.info(self.describe(progress, now))

    def describe(self, progress: SampleProgress, now: float) -> str:
        """One line on how far a sample is."""
        begun = self._begun[progress.sample]
        events, selected = progress.total("events"), progress.total("selected")
        rate = (events - begun.events) / (now - begun.time)
        line = (
            f"{progress.sample}: {selected:,} of {progress.target:,} selected events, "
            f"{events:,} events in {len(progress.finished)} files, {rate:.1f} events/s"
        )
        if selected == begun.selected or selected >= progress.target:
            return line
        remaining = (progress.target - selected) * (now - begun.time) / (selected - begun.selected)
        return f"{line}, about {remaining:.0f} s left"


@dataclass(frozen=True)
class _Begun:
    time: float
    events: int
    selected: int
