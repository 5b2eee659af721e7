"""The parts that the pages show of what the jobs publish: reports and manifests. The numbers are theirs.

The jobs' library, which has the whole of them, is not at hand where Airflow runs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from msgspec import Struct, structs


class Measured(Struct, frozen=True):
    """A value with its statistical error; None where it is undefined."""

    value: float | None = None
    error: float | None = None


class WorkingPoint(Struct, frozen=True):
    """How much background passes where a share ``target`` of the signal does."""

    target: float
    false_positive_rate: float | None = None

    @property
    def rejection(self) -> float | None:
        """Background events for each one that passes; None where none does, or nothing is known.

        >>> WorkingPoint(0.9, 0.02).rejection
        50.0
        """
        return 1 / self.false_positive_rate if self.false_positive_rate else None


class History(Struct, frozen=True):
    """Learning curves, a value for each epoch."""

    validation_loss: list[float | None] = []


class Model(Struct, frozen=True):
    """What a report says of one model."""

    auc: dict[str, Measured]
    """Sample → area under the ROC curve."""
    accuracy: Measured = Measured()
    run: str = ""
    working_points: dict[str, list[WorkingPoint]] = {}
    history: History = History()


class DatasetConfiguration(Struct, frozen=True):
    """What a dataset was made of."""

    partitions: list[str] = []
    preparation: dict[str, Any] = {}


class Configuration(Struct, frozen=True):
    """Configuration of the stages behind a report."""

    dataset: DatasetConfiguration = DatasetConfiguration()
    selection: dict[str, Any] = {}
    training: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}

    def values(self) -> dict[str, Any]:
        """All of it, by "stage key"."""
        stages = {"preparation": self.dataset.preparation}
        stages |= {"selection": self.selection, "training": self.training, "evaluation": self.evaluation}
        days = {"days": ", ".join(self.dataset.partitions)}
        return days | {f"{stage} {key}": value for stage, of in stages.items() for key, value in of.items()}


class Report(Struct, frozen=True):
    """``metrics.json`` of a report, or the part of it that an asset event carries."""

    report: str
    dataset: str
    classes: list[str]
    models: dict[str, Model]
    missing: list[str] = []
    configuration: Configuration = Configuration()
    code_versions: dict[str, str] = {}

    def best_auc(self, sample: str) -> float:
        """Largest area under the ROC curve of a class; -1 where no model has one."""
        aucs = [model.auc[sample].value for model in self.models.values() if sample in model.auc]
        return max((auc for auc in aucs if auc is not None), default=-1.0)


class Version(Struct, frozen=True):
    """A version of the registry: a model that was put forward."""

    label: str
    architecture: str
    classes: list[str]
    metrics: Model
    thresholds: dict[str, list[WorkingPoint]] = {}
    lineage: dict[str, str] = {}

    @property
    def model(self) -> Model:
        """What its report says of it; the registry has the working points apart."""
        return structs.replace(self.metrics, working_points=self.thresholds)

    def made_of(self, kind: str) -> list[str]:
        """Names of the datasets, or reports, that it comes from."""
        return [place.rpartition("/")[2] for place in self.lineage if place.startswith(f"{kind}/")]


class Act(Struct, frozen=True):
    """An act of publication."""

    version: int
    action: str
    who: str
    when: str
    why: str
    order: str | None = None


class OutputFile(Struct, frozen=True):
    """A published file."""

    bytes: int


class BadFile(Struct, frozen=True):
    """A quarantined input."""

    source: str
    reason: str


class Unit(Struct, frozen=True):
    """A range of entries of one input, and what became of it."""

    source: str
    entry_start: int
    entry_stop: int
    source_bytes: int = 0
    source_checksum: str = ""
    counts: dict[str, int] = {}
    outputs: list[OutputFile] = []


class Manifest(Struct, frozen=True):
    """What an output folder holds."""

    stage: str
    config_hash: str
    config: dict[str, Any]
    units: list[Unit]
    code: int = 0
    inputs: dict[str, str] = {}
    quarantined: list[BadFile] = []
    notes: list[str] = []
    extra: dict[str, Any] = {}
    code_version: str = ""


@dataclass(frozen=True)
class Sample:
    """What a folder holds of one sample.

    Attributes:
        counts: Step → events.
        inputs: File → a number that changes with it, and with what was read of it.
    """

    counts: dict[str, int]
    inputs: dict[str, int]


@dataclass(frozen=True)
class Output:
    """A folder's newest manifest in short: its units may be thousands.

    Attributes:
        manifest: All but the units.
        bytes: Size of all published files.
        samples: Sample → what there is of it; of datasets and models, split or dataset.
    """

    manifest: Manifest
    bytes: int
    samples: dict[str, Sample]

    def events(self, step: str) -> int:
        """Events after a step, of all samples."""
        return sum(sample.counts.get(step, 0) for sample in self.samples.values())


def output_of(manifest: Manifest) -> Output:
    """A manifest in short."""
    units = defaultdict(list)
    for unit in manifest.units:
        units[unit.source.partition("/")[0]].append(unit)
    size = sum(file.bytes for unit in manifest.units for file in unit.outputs)
    return Output(structs.replace(manifest, units=[]), size, {name: _sample(of) for name, of in units.items()})


def _sample(units: list[Unit]) -> Sample:
    counts: Counter[str] = Counter()
    inputs = defaultdict(set)
    for unit in units:
        counts.update(unit.counts)
        inputs[unit.source].add((unit.entry_start, unit.entry_stop, unit.source_bytes, unit.source_checksum))
    return Sample(dict(counts), {source: hash(frozenset(read)) for source, read in inputs.items()})
