"""Make a training dataset out of selected events: balance, split, scale, shuffle, write TFRecord shards.

    python jobs/prepare_features.py --base DATA --partitions 2026-01-01 2026-01-02 --dataset demo

reads {base}/selected/{partition}/ and writes {base}/datasets/demo/: train/, validation/ and test/ with
shard-00000-of-00008-1a2b3c4d.tfrecord and so on (the last digits follow from inputs and configuration), scaling.json,
and manifest.json with the cutflow from raw to splits. Which event goes where depends on the seed and the event alone.
A second run redoes nothing, unless an input changed or a file is gone.
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
    parser.add_argument("--replace", action="store_true", help="make anew what another configuration made")
    cli.add_spark_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Read the selected partitions' manifests, prepare the dataset unless it is there, publish it."""
    from toposieve.io import datasets, manifests
    from toposieve.io.filesystems import base_path, path_key
    from toposieve.spark.preparation import prepare
    from toposieve.spark.session import spark_session

    start = time.monotonic()
    base = base_path(args.base)
    preparation = cli.stage_config(args, PreparationConfig)
    directory = base / "datasets" / path_key("--dataset", args.dataset)
    inputs = datasets.read_inputs(base, [path_key("--partitions", partition) for partition in args.partitions])
    config = datasets.DatasetConfig(preparation=preparation, partitions=tuple(inputs.manifests))
    logger.info("input %s, output %s", ", ".join(str(base / name) for name in inputs.fingerprints), directory)
    with manifests.Publication(directory) as publication:
        manifests.check_same_config(directory, publication.previous, config.hash, replace=args.replace)
        if datasets.is_complete(directory, publication.previous, inputs, config):
            logger.info("%s is complete and its inputs are unchanged: nothing to do", directory)
            return
        with spark_session("prepare", args.master) as spark:
            content = prepare(spark, inputs, config, publication.staging)
        inputs.check_unchanged()
        manifest = datasets.dataset_manifest(inputs, config, content)
        publication.publish(manifest, manifest.outputs())
    seconds, events = time.monotonic() - start, manifest.total("events")
    manifests.write_timing(directory, seconds=seconds, events=events)
    logger.info("prepared %d events in %.1f s (%.0f events/s): %s", events, seconds, events / seconds, directory)


if __name__ == "__main__":
    cli.run(main, arg_parser())
