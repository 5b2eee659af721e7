"""Ingest one partition: find its ROOT files, check them, and put what is in them on record.

    python jobs/ingest.py --base work --partition 2026-01-01

Inspects {base}/raw/{sample}/{partition}/*.root (or --raw) and writes {base}/events/{partition}/: manifest-000001.json
and on, of which the newest alone says which entries of which files there are. With --set store_events=true, also one
Parquet file for each range of entries, with the needed leaves of every event: as large as the ROOT files, and faster to
select from again and again, with the same result. What is there already, from the same input and with the same
configuration, is kept; what a killed run has left is taken over. Ends with a line such as
"done: 3,000 new events of 3,000 in 12.8 s".
"""

from __future__ import annotations

import argparse
import logging
import time

from toposieve import cli, schema
from toposieve.config import IngestConfig
from toposieve.io.names import path_key

logger = logging.getLogger("ingest")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", IngestConfig)
    parser.add_argument("--partition", required=True, help="production day (or any other key) to ingest")
    parser.add_argument(
        "--samples",
        nargs="+",
        choices=schema.SAMPLES,
        default=schema.SAMPLES,
        help="samples to ingest; others in the output stay as they are, unless --replace changes the configuration, "
        "which removes them; default: all that have files",
    )
    cli.add_bad_file_argument(parser)
    parser.add_argument(
        "--drop-missing",
        action="store_true",
        help="take the events of inputs that are gone out of the output, instead of stopping",
    )
    cli.add_raw_argument(parser)
    cli.add_output_arguments(parser)
    cli.add_spark_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Inspect the files, store the events that are new if that is asked for, publish."""
    from toposieve.io.publication import check_same_config
    from toposieve.io.raw import check_gone, find_files
    from toposieve.io.stages import finish
    from toposieve.spark.ingestion import check_other_samples, events_manifest, ingest_files
    from toposieve.spark.session import SparkOnDemand
    from toposieve.todo import ingest_work

    started = time.monotonic()
    config, partition = cli.stage_config(args, IngestConfig), path_key("--partition", args.partition)
    raw, target = cli.raw_key(args), cli.base_key(args) / "events" / partition
    if cli.shows_history(args, target):
        return
    logger.info("input %s/{sample}/%s, output %s", raw, partition, target)
    files = find_files(raw, args.samples, partition)
    if cli.shows_plan(args, lambda: ingest_work(raw, files, cli.look(target), config, recompute=args.recompute)):
        return
    options = cli.options(args)
    with cli.publication(args, target) as publication, SparkOnDemand("ingest", args.master) as spark:
        check_same_config(target, publication.previous, config.hash, replace=args.replace)
        check_other_samples(publication.previous, config, args.samples)
        if not args.drop_missing:
            check_gone(publication.previous, files, args.samples)
        ingested = ingest_files(raw, files, publication, config, spark, options)
        manifest = events_manifest(ingested, publication.previous, config, args.samples)
        finish(publication, manifest, ingested.new_events, started)


if __name__ == "__main__":
    cli.run(main, arg_parser())
