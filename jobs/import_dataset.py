"""Make a published dataset (arXiv:1909.10389) ours: train and evaluate on it as on our own.

    python jobs/import_dataset.py --base DATA --dataset published --train FOLDER/train --test FOLDER/test

reads TFRecord files (compressed by gzip or not) or Parquet files, whatever they are called, and writes shards and a
manifest to {base}/datasets/published. Validation is cut from the training files; an event is known by its file and
record, and counts 1. Features stay as they are, scaled: what they were in GeV is not known. A second run redoes none,
and one that was killed goes on with the next file. The folders may be read-only, on any store.
"""

from __future__ import annotations

import argparse
import logging
import time

from toposieve import cli
from toposieve.config import ImportConfig

logger = logging.getLogger("import_dataset")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__, ImportConfig)
    parser.add_argument("--dataset", required=True, help="name of the dataset that is made")
    parser.add_argument("--train", required=True, help="folder of the published training files")
    parser.add_argument("--test", required=True, help="folder of the published test files")
    cli.add_output_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Fetch every file once, write a shard of each of its splits, publish the dataset."""
    from toposieve.io.names import path_key
    from toposieve.io.publication import check_same_config
    from toposieve.io.stages import finish
    from toposieve.io.store import root_key
    from toposieve.training import published

    started = time.monotonic()
    config = cli.stage_config(args, ImportConfig)
    folder = cli.base_key(args) / "datasets" / path_key("--dataset", args.dataset)
    if cli.shows_history(args, folder):
        return
    train, test = root_key("--train", args.train), root_key("--test", args.test)
    sources = published.find_sources(train, test)
    logger.info("input %s and %s, output %s", train, test, folder)
    with cli.publication(args, folder) as publication:
        check_same_config(folder, publication.previous, config.hash, replace=args.replace)
        units, new_events = published.import_files(publication, sources, config, adopt=not args.recompute)
        finish(publication, published.dataset_manifest(units, config), new_events, started)


if __name__ == "__main__":
    cli.run(main, arg_parser())
