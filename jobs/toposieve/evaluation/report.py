"""The report page: every number from ``metrics.json``, every plot inside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from toposieve.evaluation import decision, importance, systematics
from toposieve.evaluation.distributions import CUT_LABELS
from toposieve.evaluation.inputs import StageTime
from toposieve.evaluation.page import Section, Table, render_page
from toposieve.evaluation.reference import PUBLISHED
from toposieve.evaluation.style import name_classes
from toposieve.evaluation.table import format_value

Metrics = Mapping[str, Any]
Images = Mapping[str, bytes]
Latency = Mapping[str, Sequence[Mapping[str, float]]]

EXPLANATIONS: dict[str, tuple[str, str]] = {
    "auc": (
        "Each point is one model's area under the ROC curve, with the error that comes from the number of test events.",
        "Further right is better, 1 is perfect and 0.5 is guessing; open diamonds are the published values.",
    ),
    "roc": (
        "Moving right along a curve keeps more of the wanted class; moving down lets more of the other one through. "
        "Below each panel: the same rejection divided by that of the first model.",
        "Higher is better. Markers, a little apart, are the working points below with 68 % intervals; an arrow stands "
        "at the 95 % limit where none of the background passes. Bands, of few models, hold 68 % of the resamplings; a "
        "curve ends where no background passes, and the left half of the axis is left out.",
    ),
    "rates": (
        "What a trigger on this score would take of all processes together, for each kept share of the wanted class.",
        "Lower is better. Dotted lines are the rate budgets; the thresholds below are the loosest that stay within.",
    ),
    "stability": (
        "Efficiency of the first working point's threshold, the same everywhere, in slices of the test events.",
        "Flat is good; bars are 68 % intervals, and slices worth fewer than ten events are left out.",
    ),
    "systematics": (
        "How much more or less of each process passes a model's first working point where the events are measured "
        "otherwise, or simulated otherwise; the thresholds are the same.",
        "Zero is good; the same events are compared with themselves, so that the bars (68 %) are small.",
    ),
    "importance": (
        "What a model's AUC loses where one feature, or all particles of a kind, are exchanged among the test events.",
        "Longer bars matter more, with 68 % errors. A feature that others can stand in for loses little.",
    ),
    "calibration": (
        "How often the likeliest class is right, against the probability that the model gave it.",
        "On the diagonal it means what it says, below it is too sure; bins worth fewer than ten events are left out.",
    ),
    "confusion": (
        "Every event is assigned to the class with its highest score. Each row is one true class and adds up to 100 %.",
        "A good model has its weight on the diagonal. Percentages are weighted, the small numbers count events.",
    ),
    "scores": (
        "How often a model gives each score, by true class: the class in question should pile up right, others left. "
        "Both ends are stretched (logit axis), for thresholds lie there.",
        "Every histogram is weighted and adds up to one, with statistical errors; the vertical axis is logarithmic, "
        "and the outermost 0.5 % of each side is in the end bins.",
    ),
    "learning": (
        "The loss that training minimises, after each pass over the training events, and that of validation events.",
        "Both should fall and level off; validation rising while training falls is overfitting.",
    ),
    "search": (
        "Each search in rows of its own: loss of each trial, what each key explains of it, loss for each key's values.",
        "Lower is better; only trials that were trained to the end compete, the others were given up early.",
    ),
    "features": (
        "The test events in physical units: where the colours differ, the feature tells the classes apart.",
        "Every histogram is weighted and adds up to one; the outermost 0.5 % of each side is in the end bins.",
    ),
    "cutflow": (
        "How many events of each sample are left after each step, from the raw files to the test events used here.",
        "The vertical axis is logarithmic; the balanced events are split into the last three groups.",
    ),
}
"""Two lines of plain words under each plot."""

OF_WEIGHTS: dict[str, tuple[str, str, str]] = {
    "weights": ("weighted_cutflow", "Sum of their weights, as generated", ",.1f"),
    "negative_share": ("negative_share", "Share of negative weight", ".1%"),
    "effective_events": ("effective_events", "Effective events: worth so many of equal weight", ",.1f"),
}
"""What a step of the cutflow says of its events' weights → where the manifest has it, title of its table, format."""


def render(
    metrics: Metrics, timings: Sequence[StageTime], images: Images, latency: Latency = MappingProxyType({})
) -> str:
    """The report as one HTML document that needs nothing else.

    Args:
        metrics: Content of ``metrics.json``.
        timings: Rows of the table of times: stage, output, seconds and events.
        images: Plot → PNG.
        latency: Label → what :func:`~toposieve.latency.measure` has found, of those it is known of.
    """
    return render_page(
        images,
        title=f"Event-topology classifier: report “{metrics['report']}”",
        introduction=_introduction(metrics),
        summary=decision.summary(metrics),
        sections=sections(metrics, timings, images, latency),
        explanations=EXPLANATIONS,
    )


def sections(metrics: Metrics, timings: Sequence[StageTime], images: Images, latency: Latency) -> list[Section]:
    """What the page holds, in order: another section is another entry, and two lines for each plot of it."""
    return [
        _results(metrics),
        Section(
            "roc",
            "Rejection and working points",
            words=[decision.WORKING_POINTS],
            plots=["roc"],
            tables=decision.working_points(metrics),
        ),
        decision.rates(metrics),
        Section("stability", "Stability of the first working points", plots=["stability"]),
        *systematics.sections(metrics),
        *importance.sections(metrics),
        Section("calibration", "Calibration", plots=["calibration"], tables=[decision.calibration(metrics)]),
        Section("confusion", "Confusion matrices", plots=["confusion"]),
        Section("scores", "Scores", plots=["scores"]),
        Section("learning", "Learning curves", plots=["learning"], tables=[_runs(metrics)]),
        *_searches(metrics),
        _cost(metrics, latency),
        Section(
            "events",
            "Events: from raw files to the test split",
            notes=_imported(images, "cutflow"),
            plots=["cutflow"],
            tables=_cutflow(metrics),
        ),
        _bad_files(metrics),
        Section("features", "Features", notes=_imported(images, "features"), plots=["features"]),
        _published(metrics),
        Section("configuration", "Configuration", tables=_configuration(metrics)),
        Section("versions", "Versions", tables=_versions(metrics)),
        Section("time", "Time per stage", tables=[_time(timings)]),
    ]


def _introduction(metrics: Metrics) -> str:
    events = sum(values["events"] for values in metrics["test"].values())
    return (
        f"Collisions with one isolated lepton are sorted into {len(metrics['classes'])} classes by the process that "
        f"made them: {name_classes(metrics['classes'])}. This page says how well the "
        f"trained models do that on {events:,} test events of dataset “{metrics['dataset']}” that no training "
        "has seen. Events count by their weights, signs included; each class counts about equally."
    )


def _imported(images: Images, name: str) -> list[str]:
    return [] if name in images else ["The dataset was imported: it does not say."]


def _results(metrics: Metrics) -> Section:
    header = ["model", *(f"AUC {sample}" for sample in metrics["classes"]), "accuracy"]
    samples = metrics["configuration"]["evaluation"]["bootstrap_samples"]
    caption = f"Area under the ROC curve, each class against the rest, and accuracy; errors from {samples} resamplings"
    tables = [Table(caption, header, [[model, *_quantities(metrics, v)] for model, v in metrics["models"].items()])]
    if metrics["differences"]:
        rows = [[f"{d['model']} - {d['reference']}", *_quantities(metrics, d, "+")] for d in metrics["differences"]]
        words = (
            "Both models are measured on the same events and resamplings, so these errors are smaller than those "
            "above suggest. A difference below about twice its error may be chance. They say nothing of how far "
            "another training of the same model would be: that takes two seeds of each."
        )
        tables += [Table("Differences between models", header, rows, words=words), *decision.training_errors(metrics)]
    return Section("results", "Results", plots=["auc"], tables=tables)


def _quantities(metrics: Metrics, values: Mapping[str, Any], sign: str = "") -> list[str]:
    return [format_value(q, sign) for q in (*(values["auc"][name] for name in metrics["classes"]), values["accuracy"])]


def _runs(metrics: Metrics) -> Table:
    header = ["label", "parameters", "epochs", "best epoch", "validation loss", "validation accuracy", "run"]
    rows = [
        [
            label,
            _format(run.get("parameters"), ","),
            _format(run.get("epochs"), ""),
            _format(run.get("best_epoch"), ""),
            _format(run.get("validation_loss"), ".4f"),
            _format(run.get("validation_accuracy"), ".4f"),
            f"{values['model']}/{values['run']}",
        ]
        for label, values in metrics["models"].items()
        for run in [values["training"]]
    ]
    return Table("Training runs; the weights of the best epoch are used", header, rows, [len(header) - 1])


def _cost(metrics: Metrics, latency: Latency) -> Section:
    """What a decision costs; the times are of whatever machine scored the events."""
    header = [
        "label",
        "parameters",
        "size in kB",
        "events at once",
        "median, ms",
        "99 % within, ms",
        "events per second",
    ]
    rows = [
        [
            label,
            _format(values["parameters"], ","),
            f"{values['bytes'] / 1000:,.0f}",
            f"{call['batch']:,}",
            f"{1000 * call['p50']:.3g}",
            f"{1000 * call['p99']:.3g}",
            f"{call['batch'] / call['p50']:,.0f}",
        ]
        for label, values in metrics["models"].items()
        for call in latency.get(label, ())
    ]
    words = "One event is what a trigger waits for, a batch what a farm pays for; on one machine, as training left it."
    tables = [Table("Time of a decision, without reading the event", header, rows)] if rows else []
    return Section("cost", "What a decision costs", words=[words] if rows else ["Not measured."], tables=tables)


BEST_TRIALS = 5


def _searches(metrics: Metrics) -> list[Section]:
    """Of each search, the trials with the lowest losses of those that were trained to the end; none without any."""
    tables = []
    for name, search in metrics["search"].items():
        trials, keys = search["trials"], list(search["trials"][0]["values"])
        last = max(trial["epochs"] for trial in trials)
        ended = [trial for trial in trials if trial["epochs"] == last and trial["loss"] is not None]
        best = sorted(ended, key=lambda trial: (trial["loss"], trial["number"]))[:BEST_TRIALS]
        rows = [[t["number"], f"{t['loss']:.4f}", *(_setting(t["values"][key]) for key in keys)] for t in best]
        caption = f"Best of {len(trials)} trials for {search['model']}, search “{name}”"
        tables.append(Table(caption, ["trial", "validation loss", *keys], rows))
    title = "Searches for the best configuration"
    return [Section("search", title, plots=["search"], tables=tables)] if tables else []


def _cutflow(metrics: Metrics) -> list[Table]:
    classes = metrics["classes"]
    counts = [[_cut_label(s), *(f"{s['events'].get(c, 0):,}" for c in classes)] for s in metrics["cutflow"]]
    of_weights = [
        Table(
            title,
            ["step", *classes],
            [[_cut_label(s), *(_format(s[name].get(c), kind) for c in classes)] for s in metrics["cutflow"]],
        )
        for name, (_, title, kind) in OF_WEIGHTS.items()
    ]
    tests = [
        [s, f"{v['events']:,}", f"{v['weight']:.1f}", f"{v['negative_share']:.1%}", f"{v['effective_events']:,.1f}"]
        for s, v in metrics["test"].items()
    ]
    return [
        Table("Events after each step", ["step", *classes], counts),
        *of_weights,
        Table(
            "Test events",
            ["sample", "events", "sum of weights, normalised", "negative share", "effective events"],
            tests,
        ),
    ]


def _cut_label(step: Mapping[str, Any]) -> str:
    name: str = step["name"]
    return CUT_LABELS.get(name, name)


def _format(value: float | None, kind: str) -> str:
    return "n/a" if value is None else format(value, kind)


def _bad_files(metrics: Metrics) -> Section:
    files, notes = metrics["quarantined"], metrics["notes"]
    left_out = f"Bad input files that were left out: {len(files)}. None of their events is counted above."
    tables = []
    if files:
        rows = [[file["source"], file["reason"]] for file in files]
        tables.append(Table("Quarantined files", ["file", "reason"], rows, [1]))
    if notes:
        tables.append(Table("Remarks of the stages", ["number", "remark"], list(enumerate(notes, 1)), [1]))
    return Section(
        "bad-files",
        "Bad files and remarks",
        notes=[left_out] if files else [],
        words=[] if files else ["No input file was quarantined."],
        tables=tables,
    )


def _published(metrics: Metrics) -> Section:
    classes = metrics["classes"]
    header = ["classifier", *(f"AUC {sample}" for sample in classes), "accuracy", "training"]
    rows = [
        [p.name, *(_plain(p.auc.get(sample)) for sample in classes), _plain(p.accuracy), p.hardware] for p in PUBLISHED
    ]
    ours = [
        [f"{model} (this report)", *_quantities(metrics, values), ""] for model, values in metrics["models"].items()
    ]
    return Section(
        "published",
        "Published results",
        notes=[
            "arXiv:1909.10389 and its notebooks, measured on 856,090 test events of another sample: another generator "
            "set-up, another detector simulation and far more training events. Read the published values as the level "
            "to expect of the method, not as a test of this report."
        ],
        tables=[Table("Ours and published", header, [*ours, *rows], [len(header) - 1])],
    )


def _plain(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _configuration(metrics: Metrics) -> list[Table]:
    return [
        Table(stage, ["setting", "value"], [[key, _setting(value)] for key, value in _flat(values)], [1])
        for stage, values in metrics["configuration"].items()
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        rows += _flat(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return rows


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _versions(metrics: Metrics) -> list[Table]:
    return [
        Table("Code of this project", ["stage", "version"], list(metrics["code_versions"].items()), [1]),
        Table("Packages", ["package", "version"], list(metrics["packages"].items()), [1]),
    ]


def _time(timings: Sequence[StageTime]) -> Table:
    rows = [[t.stage, t.output, *_duration(t.seconds, t.events)] for t in timings]
    header = ["stage", "output", "seconds", "events", "events per second"]
    return Table("Wall-clock time of the run that made each output", header, rows, [1])


def _duration(seconds: float, events: int | None) -> list[str]:
    if not events:
        return [f"{seconds:,.1f}", "n/a", "n/a"]
    return [f"{seconds:,.1f}", f"{events:,}", f"{events / seconds:,.0f}" if seconds > 0 else "n/a"]
