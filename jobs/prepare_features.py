"""Make a training dataset out of selected events: balance, split, scale, shuffle, write TFRecord shards.

    python jobs/prepare_features.py --base DATA --partitions 2026-01-01 2026-01-02 --dataset demo

reads {base}/selected/{partition}/ and writes {base}/datasets/demo/: manifest-000001.json and on, with the cutflow from
raw to splits, and a folder named by inputs and configuration, with train/, validation/ and test/, which hold
shard-00000-of-00008.tfrecord and so on, each with a table of its events beside it (.events.parquet: all but particles,
and where records begin), and scaling.json. Which event goes where depends on the seed and the event alone. A second run
redoes nothing, unless an input changed or a file is gone; what a killed run has left is taken over.
"""

from __future__ import annotations

import argparse
import logging
import time

from toposieve import cli
from toposieve.config import PreparationConfig

logger = logging.getLogger("prepare_features")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__, PreparationConfig)
    parser.add_argument("--partitions", nargs="+", required=True, help="selected partitions that make the dataset")
    parser.add_argument("--dataset", required=True, help="name of the dataset")
    cli.add_output_arguments(parser)
    cli.add_spark_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Read the selected partitions' manifests, prepare the dataset unless it is there, publish it."""
    from toposieve.code_numbers import CODE_NUMBERS
    from toposieve.io import datasets
    from toposieve.io.effective_events import check_weights
    from toposieve.io.names import path_key
    from toposieve.io.publication import check_same_config
    from toposieve.io.stages import Options, finish
    from toposieve.spark.preparation import prepare
    from toposieve.spark.session import SparkOnDemand
    from toposieve.spark.tasks import errors_of_tasks
    from toposieve.spark.verification import kept_units
    from toposieve.todo import prepare_work

    started = time.monotonic()
    base, preparation = cli.base_key(args), cli.stage_config(args, PreparationConfig)
    folder = base / "datasets" / path_key("--dataset", args.dataset)
    if cli.shows_history(args, folder):
        return
    partitions = [path_key("--partitions", partition) for partition in args.partitions]
    inputs = datasets.read_inputs(base, partitions, preparation.classes)
    config = datasets.DatasetConfig(preparation=preparation, partitions=tuple(inputs.manifests))
    if cli.shows_plan(args, lambda: prepare_work(inputs, cli.look(folder), config, recompute=args.recompute)):
        return
    logger.info("input %s, output %s", ", ".join(str(base / name) for name in inputs.fingerprints), folder)
    with cli.publication(args, folder) as publication, SparkOnDemand("prepare", args.master) as spark:
        check_same_config(folder, publication.previous, config.hash, replace=args.replace)
        options = Options(recompute=args.recompute, verify=args.verify)
        kept = kept_units(publication, config.hash, CODE_NUMBERS[datasets.STAGE], spark, options)
        if datasets.is_complete(publication, kept, inputs):
            logger.info("%s is complete and its inputs are unchanged: nothing to do", folder)
            return
        check_weights(inputs, preparation.effective_events_min)
        with errors_of_tasks():
            content = prepare(spark(), inputs, config, folder, kept, adopt=not args.recompute)
        inputs.check_unchanged()
        manifest = datasets.dataset_manifest(inputs, config, content)
        finish(publication, manifest, manifest.total("events"), started)


if __name__ == "__main__":
    cli.run(main, arg_parser())
