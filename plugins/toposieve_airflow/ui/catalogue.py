"""All results there are: as their files say, or, where these cannot be seen from here, as the tasks have announced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from toposieve_airflow.runs import assets
from toposieve_airflow.runs.documents import Manifest, Output, Report, Sample
from toposieve_airflow.ui.days import Day, day_of, every_day, other_code
from toposieve_airflow.ui.deployment import Deployment
from toposieve_airflow.ui.records import Event, Records, Run, Runs, newest_runs
from toposieve_airflow.ui.results import Registered, Written


class ListedReport(NamedTuple):
    """A report, when it was written or announced, and the runs that have made it or found it made."""

    report: Report
    time: datetime
    runs: Sequence[Run]


class ListedOutput(NamedTuple):
    """A dataset or a model; without its manifest where that cannot be seen from here."""

    name: str
    output: Output | None
    other_code: str
    runs: Sequence[Run]

    @property
    def made_from(self) -> list[str]:
        """Names of the days or of the dataset."""
        return [place.rpartition("/")[2] for place in self.output.manifest.inputs] if self.output else []


class Catalogue:
    """What there is.

    Args:
        site: The deployment.
        records: Airflow's own.
    """

    def __init__(self, site: Deployment, records: Records) -> None:
        """Read nothing yet."""
        self._site = site
        self._records = records
        self._results = site.results if site.results.are_here() else None

    def reports(self) -> list[ListedReport]:
        """Every report, the newest first."""
        if self._results is None:
            found = list(_announced(self._records.events(assets.REPORT.name)))
        else:
            found = self._results.reports()
        runs = self._runs_of_reports()
        listed = [ListedReport(each.report, each.time, runs.get(each.report.report, [])) for each in found]
        return sorted(listed, key=lambda each: each.time, reverse=True)

    def report(self, name: str) -> ListedReport | None:
        """The report of a name; None where there is none."""
        if self._results is None:
            return next((each for each in self.reports() if each.report.report == name), None)
        found = self._results.report(name)
        return None if found is None else ListedReport(*found, self._runs_of_reports().get(name, []))

    def days(self) -> list[Day]:
        """Every day, the last first."""
        if self._results is not None:
            return every_day(self._results, self._site.samples, self._site.code_numbers)
        newest = {event.partition: event.extra for event in reversed(self._records.events(assets.SELECTED.name))}
        return [_announced_day(day, newest[day]) for day in sorted(filter(None, newest), reverse=True)]

    def day(self, name: str) -> Day | None:
        """One day; None where there is nothing of it."""
        if self._results is None:
            return next((day for day in self.days() if day.name == name), None)
        day = day_of(self._results, name, self._site.samples, self._site.code_numbers)
        return day if day.outputs else None

    def datasets(self) -> list[ListedOutput]:
        """Every dataset, by name."""
        return self._listed("datasets", assets.DATASET.name, ("dataset",))

    def models(self) -> list[ListedOutput]:
        """Every run of the training, by model."""
        return self._listed("models", assets.MODEL.name, ("model", "run"))

    def registered(self) -> list[Registered]:
        """What the registry has; nothing where it cannot be seen from here."""
        return [] if self._results is None else self._results.registered()

    def _runs_of_reports(self) -> Runs:
        events = self._records.events(assets.REPORT.name)
        return newest_runs((str(event.extra.get("report")), event.run) for event in events)

    def _listed(self, kind: str, asset: str, keys: Sequence[str]) -> list[ListedOutput]:
        """What lies in folders of a kind, as deep as there are keys in the extra of what announces it."""
        events = [event for event in self._records.events(asset) if all(key in event.extra for key in keys)]
        runs = newest_runs(("/".join(str(event.extra[key]) for key in keys), event.run) for event in events)
        if self._results is None:
            return [ListedOutput(name, None, "", runs[name]) for name in sorted(runs)]
        names = _below(self._results.names, kind, len(keys))
        outputs = {name: self._results.output(kind, *name.split("/")) for name in names}
        return [
            ListedOutput(name, output, other_code(output, self._site.code_numbers), runs.get(name, []))
            for name, output in outputs.items()
            if output is not None
        ]


def _below(names: Callable[..., list[str]], kind: str, depth: int) -> list[str]:
    """Folders in a folder, or in the folders of that one."""
    found = names(kind)
    return found if depth == 1 else [f"{name}/{below}" for name in found for below in names(kind, name)]


def _announced(events: Iterable[Event]) -> Iterator[Written]:
    """The newest of what was announced of each report, in the form of its metrics."""
    seen = set()
    for event in events:
        try:
            report = msgspec.convert(event.extra, Report)
        except msgspec.ValidationError:  # a person's own event, or one of an older version
            continue
        if report.report not in seen:
            seen.add(report.report)
            yield Written(report, event.time)


def _announced_day(name: str, extra: dict[str, Any]) -> Day:
    cutflow = extra.get("cutflow", {})
    samples = {sample: Sample(counts, {}) for sample, counts in cutflow.items()}
    manifest = Manifest(stage="select", config_hash="", config={}, units=[])
    return Day(name, None, Output(manifest, 0, samples), (), (), ())
