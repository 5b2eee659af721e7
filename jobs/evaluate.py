"""Evaluate trained models on the test split of a dataset and write a report.

    python jobs/evaluate.py --base DATA --dataset demo --report demo --models hlf inclusive

reads {base}/datasets/demo/ and the models' runs under {base}/models/, and writes {base}/reports/demo/: report.html (one
page that needs nothing else), metrics.json, predictions.parquet and every plot as PNG. The log ends with the table:

    AUC              qcd               ttbar             wjets             accuracy
    hlf              0.9763 ± 0.0021   0.9842 ± 0.0016   0.9721 ± 0.0023   0.9012 ± 0.0051
    inclusive        ...
    inclusive - hlf  +0.0012 ± 0.0010  ...

Models trained with other values than the defaults are found by the same values in --training. A report that is there
already, from the same dataset, runs and configuration, is left as it is; with other inputs it is made anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from toposieve import cli
from toposieve.config import EvaluationConfig, ModelName, TrainingConfig, load_config
from toposieve.evaluation.table import format_table
from toposieve.io import manifests
from toposieve.io.filesystems import base_path, path_key
from toposieve.version import code_version

if TYPE_CHECKING:
    from toposieve.evaluation.inputs import ModelRun, StageTime, TestData

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
        "--models",
        nargs="+",
        choices=get_args(ModelName),
        required=True,
        metavar="MODEL",
        help="trained models to compare",
    )
    parser.add_argument(
        "--training", metavar="JSON", help="configuration the models were trained with, less the model: JSON, or a file"
    )
    parser.add_argument("--replace", action="store_true", help="make anew a report of another configuration")
    return parser


def main(args: argparse.Namespace) -> None:
    """Find the dataset and the runs, make the report unless it is there, and log its table."""
    config = cli.stage_config(args, EvaluationConfig)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from toposieve.evaluation import inputs

    base = base_path(args.base)
    dataset = base / "datasets" / path_key("--dataset", args.dataset)
    directory = base / "reports" / path_key("--report", args.report)
    logger.info("input %s and its models under %s, output %s", dataset, base / "models", directory)
    data = inputs.open_test_data(dataset)
    runs = [
        inputs.open_run(base, dataset, load_config(TrainingConfig, args.training, {"model": model}))
        for model in get_args(ModelName)
        if model in args.models
    ]
    fingerprints = inputs.input_fingerprints(base, data, runs)
    with manifests.Publication(directory) as publication:
        manifests.check_same_config(directory, publication.previous, config.hash, replace=args.replace)
        if _is_complete(directory, publication.previous, config, fingerprints):
            logger.info("%s is complete and its inputs are unchanged: nothing to do", directory)
        else:
            _make(publication, config, data, runs, fingerprints, inputs.stage_times(base, data, runs))
    logger.info("results:\n\n%s\n", format_table(json.loads((directory / METRICS_NAME).read_text())))
    logger.info("report: %s", directory / REPORT_NAME)


def _is_complete(
    directory: Path, previous: manifests.Manifest | None, config: EvaluationConfig, fingerprints: dict[str, str]
) -> bool:
    if previous is None or previous.inputs != fingerprints or not (directory / REPORT_NAME).is_file():
        return False
    return len(manifests.reusable_units(directory, previous, config.hash)) == len(previous.units)


def _make(
    publication: manifests.Publication,
    config: EvaluationConfig,
    data: TestData,
    runs: Sequence[ModelRun],
    fingerprints: dict[str, str],
    times: Sequence[StageTime],
) -> None:
    from toposieve.evaluation import content, performance, predictions, report
    from toposieve.evaluation.inputs import StageTime

    start = time.monotonic()
    staging, name = publication.staging, publication.directory.name
    predicted = predictions.predict(data, runs)
    predictions.write_parquet(staging / PREDICTIONS_NAME, predicted)
    measured = performance.measure(predicted.labels, predicted.weights, predicted.scores, config)
    metrics = content.summarise(name, data, runs, predicted, measured, config)
    (staging / METRICS_NAME).write_text(json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    logger.info("drawing plots")
    images = content.draw(staging, metrics, predicted, measured)
    events, seconds = data.split.events, time.monotonic() - start
    own = StageTime("reports", f"reports/{name}", seconds, events)
    scoring = [StageTime("scoring", model, spent, events) for model, spent in predicted.seconds.items()]
    page = report.render(
        metrics, [*times, *scoring, own], {figure: path.read_bytes() for figure, path in images.items()}
    )
    (staging / REPORT_NAME).write_text(page)
    _publish(
        publication,
        config,
        fingerprints,
        data,
        [METRICS_NAME, PREDICTIONS_NAME, *(path.name for path in images.values())],
    )
    manifests.write_timing(publication.directory, seconds=time.monotonic() - start, events=events)


def _publish(
    publication: manifests.Publication,
    config: EvaluationConfig,
    fingerprints: dict[str, str],
    data: TestData,
    names: Sequence[str],
) -> None:
    """Publish the files; the page shows times, which differ between runs, so the manifest does not list it."""
    files = [manifests.describe_file(publication.staging / name, publication.staging) for name in (*names, REPORT_NAME)]
    unit = manifests.Unit(
        source=f"datasets/{data.directory.name}/{data.split.name}",
        source_checksum="",
        entry_start=0,
        entry_stop=data.split.events,
        counts={"events": data.split.events, **data.counts},
        outputs=tuple(files[:-1]),
    )
    manifest = manifests.Manifest(
        stage=STAGE,
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        inputs=fingerprints,
        units=(unit,),
        code_version=code_version(),
    )
    publication.publish(manifest, files)


if __name__ == "__main__":
    cli.run(main, arg_parser())
