"""Select one partition: keep events with an isolated lepton, and compute their features.

    python jobs/select_events.py --base work --partition 2026-01-01

Reads {base}/events/{partition}/ as ingest.py left it, and writes {base}/selected/{partition}/: one Parquet file for
each of its files, cutflow.json, and manifest.json, which alone says what is there. Files that are there already, from
the same input and with the same configuration, are kept. Ends with a line such as
"done: 3,000 new events of 3,000 in 12.8 s" and the cutflow.
"""

from __future__ import annotations

import argparse
import logging
import time

from toposieve import cli
from toposieve.config import SelectionConfig
from toposieve.io.filesystems import base_path, path_key

logger = logging.getLogger("select_events")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", SelectionConfig)
    parser.add_argument("--partition", required=True, help="production day (or any other key) to select from")
    parser.add_argument("--replace", action="store_true", help="replace output of another configuration")
    cli.add_spark_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Plan from the events manifest, select what is new on Spark, publish."""
    from toposieve.io.manifests import Publication, check_same_config
    from toposieve.spark.selection import select_partition, write_cutflow
    from toposieve.spark.sink import publish

    started = time.monotonic()
    config = cli.stage_config(args, SelectionConfig)
    base, partition = base_path(args.base), path_key("--partition", args.partition)
    source, target = base / "events" / partition, base / "selected" / partition
    logger.info("input %s, output %s", source, target)
    with Publication(target) as publication:
        check_same_config(target, publication.previous, config.hash, replace=args.replace)
        manifest, new = select_partition(base, partition, publication, config, args.master)
        publish(publication, manifest, new, started)
    write_cutflow(target, manifest)


if __name__ == "__main__":
    cli.run(main, arg_parser())
