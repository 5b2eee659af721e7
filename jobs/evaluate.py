r"""Evaluate trained models on the test split of a dataset and write a report.

    python jobs/evaluate.py --base DATA --dataset demo --report demo \
        --labels hlf=models/hlf/RUN gru=models/inclusive/RUN

reads {base}/datasets/demo/ and the runs that the labels name, below the base; writes the networks' scores of validation
and test events, {base}/scores/demo/{model}/{run}/, unless they are there; and {base}/reports/demo/: report.html (one
page that needs nothing else) and metrics.json; and in a folder that the manifest lists, what they are made of:
metrics.json, predictions.parquet and every plot as PNG. Thresholds are chosen on the validation split, everything is
measured on the test split. The log ends with the table:

    AUC        qcd               ttbar             wjets             accuracy
    hlf        0.9763 ± 0.0021   0.9842 ± 0.0016   0.9721 ± 0.0023   0.9012 ± 0.0051
    gru        ...
    gru - hlf  +0.0012 ± 0.0010  ...

The log of a training names its run. Labels are free: several runs of one model stand side by side. A report that is
there already, of the same dataset, labels and configuration, is left as it is; with others it is made anew, with
--keep-labels together with the labels, searches and varied events that it has. Labels given as --missing are not
trained: the report says so, and the job ends with exit code 2 all the same.

    --varied jets-up=demo.jets-up

also tells what the networks let pass of the same events in another dataset, which was prepared alike from a variation
(select_events.py --selected), or of other events, such as those of another simulation.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from toposieve import cli
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import EvaluationConfig
from toposieve.errors import InvalidInputError
from toposieve.evaluation.table import format_table
from toposieve.io.content_folders import upload
from toposieve.io.manifests import Manifest, Unit, read_manifest_if_any
from toposieve.io.names import path_key
from toposieve.io.publication import Publication, check_same_config, is_up_to_date, write_timing
from toposieve.io.sample_cross_sections import cross_sections
from toposieve.io.store import Key, root_key
from toposieve.version import code_version

if TYPE_CHECKING:
    from toposieve.evaluation.inputs import ModelRun, OtherData, TestData
    from toposieve.evaluation.performance import Performance
    from toposieve.evaluation.predictions import Predictions

METRICS_NAME = "metrics.json"
REPORT_NAME = "report.html"
PREDICTIONS_NAME = "predictions.parquet"
STAGE = "evaluate"

logger = logging.getLogger("evaluate")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", EvaluationConfig)
    parser.add_argument("--dataset", required=True, help="name of the dataset under {base}/datasets")
    parser.add_argument("--report", required=True, help="name of the report")
    parser.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="NAME=models/MODEL/RUN",
        help="runs to compare, and what to call each",
    )
    parser.add_argument(
        "--keep-labels", action="store_true", help="compare them with those that the report there has, too"
    )
    parser.add_argument(
        "--missing", nargs="+", default=[], metavar="NAME", help="labels that the report lacks: their training failed"
    )
    parser.add_argument(
        "--varied",
        nargs="+",
        default=[],
        metavar="NAME=DATASET",
        help="datasets of varied events, or of another simulation, on which the networks' efficiencies are compared",
    )
    parser.add_argument(
        "--studies", nargs="+", default=[], metavar="STUDY", help="searches to show, as tune.py has left them"
    )
    parser.add_argument("--models", nargs="*", help=argparse.SUPPRESS)
    cli.add_output_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Find the dataset and the runs, make the report unless it is there, and log its table."""
    base = root_key("--base", args.base)
    dataset = base / "datasets" / path_key("--dataset", args.dataset)
    directory = base / "reports" / path_key("--report", args.report)
    if cli.shows_history(args, directory):
        return
    config = cli.stage_config(args, EvaluationConfig)
    names, varied = _labels(args), _varied(args)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of each symbol that a font lacks
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of each length that it compiles for
    from toposieve.evaluation import inputs

    logger.info("input %s and the runs %s, output %s", dataset, ", ".join(names.values()), directory)
    data = inputs.open_test_data(dataset)
    _check_processes(config, data)
    while (missing := _evaluate(args, config, base, directory, data, names, varied)) is None:
        logger.info("another run has published %s meanwhile: once more, with the labels that it has now", directory)
        args.recompute = False  # that is done
    logger.info("results:\n\n%s\n", format_table(json.loads((directory / METRICS_NAME).read_text())))
    logger.info("report: %s", directory / REPORT_NAME)
    if missing:
        raise InvalidInputError(
            f"{directory / REPORT_NAME} is without {', '.join(missing)}, whose training failed: "
            "train it again, and evaluate it with --keep-labels"
        )


def _evaluate(
    args: argparse.Namespace,
    config: EvaluationConfig,
    base: Key,
    directory: Key,
    data: TestData,
    names: Mapping[str, str],
    varied: Mapping[str, str],
) -> list[str] | None:
    """Make the report unless it is there: labels that are missing in it; None if what it was to keep has changed."""
    from toposieve.evaluation import inputs
    from toposieve.evaluation.search import read_searches, search_fingerprints

    before = read_manifest_if_any(directory) if args.keep_labels else None
    kept = _shown(directory, before) if args.keep_labels else {}
    runs = inputs.open_runs(base, data, names, _runs(kept))
    searches = read_searches(base, [path_key("--studies", each) for each in args.studies], kept.get("search", ()))
    missing = [label for label in args.missing if label not in (run.label for run in runs)]
    if not runs:
        raise InvalidInputError(f"nothing to evaluate: the training of {', '.join(missing)} failed; see its log")
    _score(base, data.directory, runs, recompute=args.recompute)
    others = _score_others(base, data, runs, varied, _compared(kept))
    fingerprints = inputs.input_fingerprints(base, data, runs, missing, others) | search_fingerprints(searches)
    with cli.publication(args, directory) as publication:
        if args.keep_labels and publication.previous != before:
            return None
        check_same_config(directory, publication.previous, config.hash, replace=args.replace)
        manifest = None if args.recompute else _finished(publication, config, fingerprints)
        if manifest is None:
            manifest = _make(publication, config, data, runs, fingerprints, missing, others, searches)
            _write_page(base, directory, manifest, data, runs)
        elif not _page_is_there(directory, manifest):
            _write_page(base, directory, manifest, data, runs)
        else:
            logger.info("%s is complete and its inputs are unchanged: nothing to do", directory)
    return missing


def _check_processes(config: EvaluationConfig, data: TestData) -> None:
    """Refuse cross-sections of what is no class of the dataset."""
    unknown = [name for name in config.cross_sections if name not in data.classes]
    if unknown:
        raise InvalidInputError(
            f"cross_sections: {', '.join(unknown)} is no class of {data.directory}, which has "
            f"{', '.join(data.classes)}: leave it out"
        )


def _labels(args: argparse.Namespace) -> dict[str, str]:
    """Label → folder of its run below the base.

    Raises:
        InvalidInputError: A label is no name, or is given twice, or what it names cannot be a run.
    """
    if args.models is not None:
        given = " ".join(f"{model}=models/{model}/RUN" for model in args.models)
        raise InvalidInputError(f"--models is no more: name the runs, as their trainings' logs do, --labels {given}")
    names = _named("--labels", args.labels)
    for label, name in names.items():
        if not re.fullmatch(r"models/[\w.-]+/[\w.-]+", name) or ".." in name:
            raise InvalidInputError(
                f"--labels {label}: {name!r} is no run: expected NAME=models/MODEL/RUN, as a training's log names it"
            )
    if not names and not args.missing:
        raise InvalidInputError("--labels is missing: give NAME=models/MODEL/RUN, as a training's log names its run")
    return names


def _varied(args: argparse.Namespace) -> dict[str, str]:
    """Name → dataset to compare with.

    Raises:
        InvalidInputError: A name or a dataset is none, or a name is given twice.
    """
    named = _named("--varied", args.varied)
    return {name: path_key(f"--varied {name}", dataset) for name, dataset in named.items()}


def _named(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Name → value, of texts NAME=VALUE.

    Raises:
        InvalidInputError: A name is none, or is given twice.
    """
    named: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if path_key(option, name) in named:
            raise InvalidInputError(f"{option}: {name} is given twice; choose another name for {value}")
        named[name] = value
    return named


def _shown(directory: Key, manifest: Manifest | None) -> dict[str, Any]:
    """What the report that is published shows: the page may be older by a moment."""
    listed = [file.path for file in manifest.outputs()] if manifest else []
    metrics = [path for path in listed if path.endswith(f"/{METRICS_NAME}")] + [METRICS_NAME]
    found = next((directory / path for path in metrics if (directory / path).stat()), None)
    shown: dict[str, Any] = json.loads(found.read_text()) if found else {}
    return shown


def _runs(shown: dict[str, Any]) -> dict[str, str]:
    """Label → folder of its run below the base, of a report."""
    models = shown.get("models", {})
    return {label: f"models/{of['model']}/{of['run']}" for label, of in models.items() if "model" in of}


def _compared(shown: dict[str, Any]) -> dict[str, str]:
    """Name → dataset of varied events, of a report."""
    return {name: of["dataset"] for name, of in shown.get("systematics", {}).items()}


def _score(base: Key, dataset: Key, runs: Sequence[ModelRun], *, recompute: bool) -> None:
    """Let every network score the dataset that has not."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from toposieve.evaluation import scoring

    for run in runs:
        scoring.score(base, dataset, run, recompute=recompute)


def _score_others(
    base: Key, data: TestData, runs: Sequence[ModelRun], varied: Mapping[str, str], kept: Mapping[str, str]
) -> list[OtherData]:
    """Let every network score other datasets, too, unless it has; what a report is to keep only if it still can."""
    networks, others = [run for run in runs if run.model_file is not None], []
    wanted = {**kept, **varied}
    if wanted and len(networks) < len(runs):
        left_out = ", ".join(run.label for run in runs if run not in networks)
        logger.warning("not compared on varied events, since they are no networks: %s", left_out)
    for name, dataset in wanted.items():
        try:
            others.append(_score_other(base, data, networks, name, dataset))
        except InvalidInputError as error:
            if name in varied:
                raise
            logger.warning("no longer in the report: %s", error)
    return others


def _score_other(base: Key, data: TestData, networks: Sequence[ModelRun], name: str, dataset: str) -> OtherData:
    from toposieve.evaluation import inputs, scoring

    other = inputs.open_test_data(data.directory.parent / dataset)
    if other.classes != data.classes:
        raise InvalidInputError(
            f"--varied {name}: {dataset} has the classes {', '.join(other.classes)}, "
            f"not {', '.join(data.classes)}: prepare it alike"
        )
    scored = [replace(run, scores=scoring.score_other(base, other.directory, data, run)) for run in networks]
    return inputs.OtherData(name, other, scored)


def _finished(publication: Publication, config: EvaluationConfig, fingerprints: dict[str, str]) -> Manifest | None:
    """The manifest of the same report, if all that it lists is there."""
    previous = publication.previous
    if previous is None or previous.inputs != fingerprints:
        return None
    reusable = publication.reusable(config.hash, CODE_NUMBERS["evaluate"])
    return previous if reusable and len(reusable) == len(previous.units) else None


def _make(
    publication: Publication,
    config: EvaluationConfig,
    data: TestData,
    runs: Sequence[ModelRun],
    fingerprints: dict[str, str],
    missing: Sequence[str],
    others: Sequence[OtherData],
    searches: dict[str, Any],
) -> Manifest:
    """Measure and draw in scratch, and publish the files; then tell how long it took."""
    from toposieve.evaluation import content, inputs, performance, predictions
    from toposieve.io.scores import read_permuted_scores

    start, folder = time.monotonic(), publication.folder
    validation = predictions.predict(inputs.open_test_data(data.directory, inputs.VALIDATION_SPLIT), runs)
    predicted = predictions.predict(data, runs)
    measured = performance.measure(validation.sample, predicted.sample, config, cross_sections(data.manifest))
    permuted = {run.label: read_permuted_scores(run.scores) for run in runs}
    shifts = {other.name: _compare(predicted, other, measured) for other in others}
    metrics = content.summarise(
        folder.name, data, runs, predicted, measured, config, missing, permuted, searches, shifts
    )
    with TemporaryDirectory(prefix="toposieve-") as name:
        scratch = Path(name)
        predictions.write_parquet(scratch / PREDICTIONS_NAME, predicted)
        (scratch / METRICS_NAME).write_text(_json(metrics), encoding="utf-8")
        logger.info("drawing plots")
        images = content.draw(scratch, metrics, predicted, measured)
        names = [METRICS_NAME, PREDICTIONS_NAME, *(path.name for path in images.values())]
        files = upload(scratch, names, folder)
    unit = Unit(
        source=f"datasets/{data.directory.name}/{data.split.name}",
        source_checksum="",
        entry_start=0,
        entry_stop=data.split.events,
        counts={"events": data.split.events, **data.counts},
        outputs=files,
    )
    manifest = _manifest(config, fingerprints, unit)
    if not is_up_to_date(publication.previous, manifest):
        manifest = publication.publish(manifest)
    write_timing(folder, seconds=time.monotonic() - start, events=data.split.events, latency=_latency(runs))
    return manifest


def _latency(runs: Sequence[ModelRun]) -> dict[str, list[dict[str, Any]]]:
    from toposieve.latency import read_latency

    return {run.label: found for run in runs if (found := read_latency(run.scores)) is not None}


def _compare(nominal: Predictions, other: OtherData, measured: Performance) -> dict[str, Any]:
    """What passes of other events at the thresholds of the nominal ones."""
    from toposieve.evaluation import predictions, systematics

    found = predictions.predict(other.data, other.runs)
    places = systematics.same_events(nominal.event_ids, found.event_ids)
    targets = measured.config.working_points
    shifts = systematics.summarise(nominal.sample, found.sample, measured.thresholds, targets, places)
    return {"dataset": other.data.directory.name, **shifts}


def _manifest(config: EvaluationConfig, fingerprints: dict[str, str], unit: Unit) -> Manifest:
    return Manifest(
        stage=STAGE,
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        code=CODE_NUMBERS["evaluate"],
        inputs=fingerprints,
        units=(unit,),
        code_version=code_version(),
    )


def _write_page(base: Key, directory: Key, manifest: Manifest, data: TestData, runs: Sequence[ModelRun]) -> None:
    """Write what people look at from what is published: the page shows times too, so no manifest lists it."""
    from toposieve.evaluation import inputs, report

    files = {key.name: key for key in (directory / file.path for file in manifest.outputs())}
    metrics = files[METRICS_NAME].read_text()
    images = {name.removesuffix(".png"): key.read_bytes() for name, key in files.items() if name.endswith(".png")}
    times = inputs.stage_times(base, data, runs, directory)
    page = report.render(json.loads(metrics), times, images, _latency(runs))
    (directory / REPORT_NAME).write_text(page)
    (directory / METRICS_NAME).write_text(metrics)  # last: it says which report the page is


def _page_is_there(directory: Key, manifest: Manifest) -> bool:
    """Whether the page is that of the newest manifest: a run may have ended between the two."""
    (listed,) = (file for file in manifest.outputs() if file.path.endswith(f"/{METRICS_NAME}"))
    if any((directory / name).stat() is None for name in (METRICS_NAME, REPORT_NAME)):
        return False
    return (directory / METRICS_NAME).read_bytes() == (directory / listed.path).read_bytes()


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


if __name__ == "__main__":
    cli.run(main, arg_parser())
