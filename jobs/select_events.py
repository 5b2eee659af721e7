"""Select one partition: keep events with an isolated lepton, and compute their features.

    python jobs/select_events.py --base work --partition 2026-01-01

Reads the files that ingest.py has put on record in {base}/events/{partition}/, from {base}/raw/ (or --raw), or their
events as Parquet where it has stored them. Writes {base}/selected/{partition}/: one Parquet file for each range of
entries, cutflow.json, and manifest-000001.json and on, of which the newest alone says what is there. Files that are
there already, from the same input and with the same configuration, are kept; what a killed run has left is taken over.

A systematic variation of the same events has another name, which prepare_features.py takes as a partition:

    python jobs/select_events.py --base work --partition 2026-01-01 --set jet_scale=1.03 --selected 2026-01-01.jets-up

Ends with a line such as "done: 3,000 new events of 3,000 in 12.8 s" and the cutflow.
"""

from __future__ import annotations

import argparse
import logging
import time

from toposieve import cli
from toposieve.config import SelectionConfig
from toposieve.io.names import path_key

logger = logging.getLogger("select_events")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", SelectionConfig)
    parser.add_argument("--partition", required=True, help="production day (or any other key) to select from")
    parser.add_argument(
        "--selected", metavar="NAME", help="name of the output under {base}/selected (default: that of the partition)"
    )
    cli.add_bad_file_argument(parser)
    cli.add_raw_argument(parser)
    cli.add_output_arguments(parser)
    cli.add_spark_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Plan from ingest's manifest, select what is new on Spark, publish."""
    from toposieve.io.manifests import read_manifest
    from toposieve.io.publication import check_same_config
    from toposieve.io.raw import Ingested
    from toposieve.io.stages import finish
    from toposieve.spark.selection import select_partition, selected_manifest, write_cutflow
    from toposieve.spark.session import SparkOnDemand
    from toposieve.todo import select_work

    started = time.monotonic()
    config, partition = cli.stage_config(args, SelectionConfig), path_key("--partition", args.partition)
    source = cli.base_key(args) / "events" / partition
    target = cli.base_key(args) / "selected" / path_key("--selected", args.selected or partition)
    if cli.shows_history(args, target):
        return
    ingested = Ingested(cli.raw_key(args), source, read_manifest(source))
    if cli.shows_plan(args, lambda: select_work(ingested, cli.look(target), config, recompute=args.recompute)):
        return
    logger.info("input %s of %s, output %s", source, ingested.raw, target)
    with cli.publication(args, target) as publication, SparkOnDemand("select", args.master) as spark:
        check_same_config(target, publication.previous, config.hash, replace=args.replace)
        selected = select_partition(ingested, publication, config, spark, cli.options(args))
        manifest = selected_manifest(f"events/{partition}", ingested.manifest, selected, config)
        manifest = finish(publication, manifest, selected.new_events, started)
        write_cutflow(target, manifest)


if __name__ == "__main__":
    cli.run(main, arg_parser())
