"""Production days: what there is of each, and what is missing, stale or made with other code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from toposieve_airflow.runs.documents import BadFile, Output
from toposieve_airflow.runs.partitions import PartitionError, days
from toposieve_airflow.ui.results import Results

FIRST_STEP, LAST_STEP = "events", "isolated_lepton"
"""Steps of the cutflow that a day's row shows."""


class State(StrEnum):
    """How good a day is; the first that applies, from the worst."""

    MISSING = "missing"
    STALE = "stale"
    OTHER_CODE = "other code"
    COMPLETE = "complete"


@dataclass(frozen=True)
class Day:
    """One production day.

    Attributes:
        name: The day, or another name of a partition.
        ingested: What ``ingest`` has put on record.
        selected: What ``select`` has made of it.
        missing: What is not there: samples, or a whole stage.
        stale: Samples whose files are not those that were selected.
        other_code: Stages that were run with other code than today's.
    """

    name: str
    ingested: Output | None
    selected: Output | None
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    other_code: tuple[str, ...]

    @property
    def state(self) -> State:
        """In one word."""
        for remarks, state in (
            (self.missing, State.MISSING),
            (self.stale, State.STALE),
            (self.other_code, State.OTHER_CODE),
        ):
            if remarks:
                return state
        return State.COMPLETE

    @property
    def remarks(self) -> str:
        """What is wrong with it, in a line."""
        said = {"no": self.missing, "changed since:": self.stale, "other code:": self.other_code}
        return "; ".join(f"{what} {', '.join(names)}" for what, names in said.items() if names)

    @property
    def outputs(self) -> list[Output]:
        """What there is of it."""
        return [output for output in (self.ingested, self.selected) if output is not None]

    @property
    def bytes(self) -> int:
        """Size of all that it has in ``events/`` and ``selected/``."""
        return sum(output.bytes for output in self.outputs)

    @property
    def bad_files(self) -> list[BadFile]:
        """Files that were quarantined."""
        return list(self.outputs[-1].manifest.quarantined) if self.outputs else []

    def events(self, sample: str | None = None) -> int | None:
        """Events of a sample, or of all; None where there are none on record."""
        return _events(self.ingested or self.selected, FIRST_STEP, sample)

    def selected_events(self, sample: str | None = None) -> int | None:
        """Selected events of a sample, or of all; None where there is no selection."""
        return _events(self.selected, LAST_STEP, sample)


def _events(output: Output | None, step: str, sample: str | None) -> int | None:
    if output is None:
        return None
    if sample is None:
        return output.events(step)
    return output.samples[sample].counts.get(step, 0) if sample in output.samples else None


def every_day(results: Results, samples: Sequence[str], code_numbers: Mapping[str, int]) -> list[Day]:
    """Days from the first to the last that there is anything of, the last first; those without anything, too.

    Args:
        results: What lies under the base.
        samples: Those that a day should have.
        code_numbers: Stage → number of its code today.
    """
    names = {*results.names("events"), *results.names("selected")}
    every = sorted({*names, *_between(names)}, reverse=True)
    return [day_of(results, name, samples, code_numbers) for name in every]


def _between(names: set[str]) -> Iterator[str]:
    dates = sorted(name for name in names if len(name) == len("2026-01-01") and name.count("-") == 2)
    if dates:
        try:
            yield from days(dates[0], dates[-1])
        except PartitionError:  # names that only look like days, or decades
            return


def day_of(results: Results, name: str, samples: Sequence[str], code_numbers: Mapping[str, int]) -> Day:
    """One day; arguments as for :func:`every_day`."""
    ingested, selected = results.output("events", name), results.output("selected", name)
    outputs = [output for output in (ingested, selected) if output is not None]
    return Day(
        name,
        ingested,
        selected,
        missing=_missing(ingested, selected, samples),
        stale=_stale(ingested, selected),
        other_code=tuple(filter(None, (other_code(output, code_numbers) for output in outputs))),
    )


def other_code(output: Output, code_numbers: Mapping[str, int]) -> str:
    """What made a folder, if that was not today's code; else nothing."""
    stage = {"training": "train"}.get(output.manifest.stage, output.manifest.stage)
    now = code_numbers.get(stage, output.manifest.code)
    return "" if now == output.manifest.code else f"{stage} {output.manifest.code}, now {now}"


def _missing(ingested: Output | None, selected: Output | None, samples: Sequence[str]) -> tuple[str, ...]:
    if ingested is None:
        return ("files",) if selected is None else ("record of its files",)
    if selected is None:
        return ("selection",)
    return tuple(sample for sample in samples if sample not in ingested.samples)


def _stale(ingested: Output | None, selected: Output | None) -> tuple[str, ...]:
    """Samples of which other files are on record now than were selected, apart from those that were found bad."""
    if ingested is None or selected is None:
        return ()
    bad = {file.source for file in selected.manifest.quarantined}
    read = {name: sample.inputs for name, sample in selected.samples.items()}
    known = {
        name: {source: inputs for source, inputs in sample.inputs.items() if source not in bad}
        for name, sample in ingested.samples.items()
    }
    return tuple(name for name in sorted({*known, *read}) if known.get(name, {}) != read.get(name, {}))
