"""Decide by the file: what a published model says of a day's events, or of a dataset's.

    python jobs/score.py --base work --partition 2026-01-01
    python jobs/score.py --base work --partition 2026-01-01 --source raw
    python jobs/score.py --base work --dataset published

Takes the published model (or --version) in its portable form, which export_model.py makes, and the events that
select_events.py has written to {base}/selected/{partition}/. For each of their files it writes one to
{base}/decisions/{name}/{version}/{partition}/: Parquet with event_id, label, score_* of each class (of which the
softmax is the probability) and passes_* of each class; and manifest-000001.json and on, of which the newest alone says
what is there. Decisions that are there already, of the same events and model, are kept; what a killed run has left is
taken over. Those of other versions stay beside them: days can be decided again when a model is published.

With --source raw nothing need be ingested or selected: {base}/raw/{sample}/{partition}/*.root (or --raw) is inspected
as ingest.py does it, and selected on the way, by the cuts of the model's own events. There is no decision on what these
drop: it is in no file, and only counted, not_selected in manifest and log. All others get the same scores to the bit.

With --dataset the events of all its splits are decided on, into {base}/decisions/{name}/{version}/datasets/{dataset}/.
An imported dataset does not say how it was scaled: only models that were trained on such a one can take it.

Ends with a line such as "done: 3,000 new events of 3,000 in 12.8 s" and, of each sample, how many pass as each class.
"""

from __future__ import annotations

import argparse
import logging
import time
from typing import TYPE_CHECKING

from toposieve import cli, registry
from toposieve.config import DecisionConfig
from toposieve.errors import InvalidInputError
from toposieve.io.names import path_key

if TYPE_CHECKING:
    from toposieve.io.store import Key
    from toposieve.spark.decision_inputs import Inputs
    from toposieve.spark.decisions import Decider

SOURCES = ("selected", "raw")

logger = logging.getLogger("score")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", DecisionConfig)
    events = parser.add_mutually_exclusive_group(required=True)
    events.add_argument("--partition", help="name of a folder under {base}/selected, or of a day of raw files")
    events.add_argument("--dataset", help="name of a folder under {base}/datasets")
    parser.add_argument(
        "--source", choices=SOURCES, default=SOURCES[0], help="events of the partition to take (default: %(default)s)"
    )
    parser.add_argument("--name", default="topology", help="what models are published as (default: topology)")
    parser.add_argument("--version", type=int, help="number of a version; default: the published one")
    cli.add_bad_file_argument(parser)
    cli.add_raw_argument(parser)
    cli.add_output_arguments(parser)
    cli.add_spark_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Find the events, decide on what is new on Spark, publish."""
    from toposieve.io.decisions import decisions_folder
    from toposieve.io.publication import check_same_config
    from toposieve.io.stages import finish
    from toposieve.spark.decisions import decisions_manifest, log_passing
    from toposieve.spark.session import SparkOnDemand

    started, base, config = time.monotonic(), cli.base_key(args), cli.stage_config(args, DecisionConfig)
    folder = registry.registry_folder(base, path_key("--name", args.name))
    version = registry.published_version(folder) if args.version is None else args.version
    target = decisions_folder(base, folder.name, version, _name(args))
    if cli.shows_history(args, target):
        return
    inputs, decider = _inputs(args, base, folder, version, config)
    if cli.shows_plan(args, lambda: inputs.work(cli.look(target), recompute=args.recompute)):
        return
    logger.info("input %s, version %d of %s, results in %s", inputs.where, version, folder, target)
    with cli.publication(args, target) as publication, SparkOnDemand("decide", args.master) as spark:
        check_same_config(target, publication.previous, config.hash, replace=args.replace)
        upstream, decided = inputs.decide(publication, spark, cli.options(args))
        manifest = decisions_manifest(inputs.name, upstream, decided, decider)
        manifest = finish(publication, manifest, decided.new_events, started)
        log_passing(manifest, decider.scorer().classes)


def _name(args: argparse.Namespace) -> str:
    """What the decisions are about, below the folder of the version's.

    Raises:
        InvalidInputError: Options are given that do not go together.
    """
    if (args.source != "raw" and args.raw) or (args.source == "raw" and args.dataset):
        raise InvalidInputError(
            "--raw and --source raw are about ROOT files of a --partition: give all of them, or none"
        )
    if args.dataset:
        return f"datasets/{path_key('--dataset', args.dataset)}"
    return path_key("--partition", args.partition)


def _inputs(
    args: argparse.Namespace, base: Key, folder: Key, number: int, config: DecisionConfig
) -> tuple[Inputs, Decider]:
    """The events to decide on, and the model."""
    from toposieve.io.manifests import read_manifest
    from toposieve.spark.decision_inputs import dataset_inputs, raw_inputs, selected_inputs
    from toposieve.spark.decisions import Decider
    from toposieve.training.shards import read_scaling

    version = registry.read_version(folder, number)
    if args.dataset:
        dataset = base / "datasets" / args.dataset
        manifest = read_manifest(dataset)
        scaling = read_scaling(dataset, manifest)
        decider = Decider.find(folder, number, config, scaled=scaling is None)
        return dataset_inputs(base, dataset, manifest, scaling, version, decider), decider
    decider = Decider.find(folder, number, config)
    if args.source == "raw":
        return raw_inputs(base, cli.raw_key(args), args.partition, version, decider), decider
    return selected_inputs(base, args.partition, version, decider), decider


if __name__ == "__main__":
    cli.run(main, arg_parser())
