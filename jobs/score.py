"""Decide by the file: what a published model says of selected events.

    python jobs/score.py --base work --partition 2026-01-01

Takes the published model (or --version) in its portable form, which export_model.py makes, and the events that
select_events.py has written to {base}/selected/{partition}/. For each of their files it writes one to
{base}/decisions/{name}/{version}/{partition}/: Parquet with event_id, label, score_* of each class (of which the
softmax is the probability) and passes_* of each class; and manifest-000001.json and on, of which the newest alone says
what is there. Decisions that are there already, of the same events and model, are kept; what a killed run has left is
taken over. Those of other versions stay beside them: days can be decided again when a model is published.

The raw events of a day that is not selected yet go through ingest.py and select_events.py first.

Ends with a line such as "done: 3,000 new events of 3,000 in 12.8 s" and, of each sample, how many pass as each class.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Mapping
from typing import Any

from toposieve import cli
from toposieve.config import DecisionConfig
from toposieve.io.names import path_key

logger = logging.getLogger("score")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", DecisionConfig)
    parser.add_argument("--partition", required=True, help="name of a folder under {base}/selected")
    parser.add_argument("--name", default="topology", help="what models are published as (default: topology)")
    parser.add_argument("--version", type=int, help="number of a version; default: the published one")
    cli.add_output_arguments(parser)
    cli.add_spark_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Plan from the manifest of selected events, decide on what is new on Spark, publish."""
    from toposieve import registry
    from toposieve.io.decisions import decisions_folder
    from toposieve.io.manifests import read_manifest
    from toposieve.io.publication import check_same_config
    from toposieve.io.stages import Options, finish
    from toposieve.spark.decisions import Decider, decide, decisions_manifest, log_passing, unit_names
    from toposieve.spark.session import SparkOnDemand
    from toposieve.todo import decide_work

    started, base = time.monotonic(), cli.base_key(args)
    config, partition = cli.stage_config(args, DecisionConfig), path_key("--partition", args.partition)
    folder = registry.registry_folder(base, path_key("--name", args.name))
    version = registry.published_version(folder) if args.version is None else args.version
    source, target = base / "selected" / partition, decisions_folder(base, folder.name, version, partition)
    if cli.shows_history(args, target):
        return
    decider, selected = Decider.find(folder, version, config), read_manifest(source)
    _compare_selections(registry.read_version(folder, version).configuration.get("selection"), selected.config)
    names = unit_names(selected, decider, config)
    if cli.shows_plan(args, lambda: decide_work(names, cli.look(target), config, recompute=args.recompute)):
        return
    logger.info("input %s, version %d of %s, output %s", source, version, folder, target)
    with cli.publication(args, target) as publication, SparkOnDemand("decide", args.master) as spark:
        check_same_config(target, publication.previous, config.hash, replace=args.replace)
        options = Options(recompute=args.recompute, verify=args.verify)
        decided = decide(names, source, publication, decider, config, spark, options)
        manifest = decisions_manifest(f"selected/{partition}", selected, decided, decider, config)
        manifest = finish(publication, manifest, decided.new_events, started)
        log_passing(manifest, decider.scorer().classes)


def _compare_selections(trained: Mapping[str, Any] | None, given: Mapping[str, Any]) -> None:
    """Say which cuts are others than those of the model's events: a variation, or a mistake."""
    if trained is None:  # an imported dataset: nobody knows
        return
    others = sorted(key for key in {*trained, *given} if trained.get(key) != given.get(key))
    for key in others:
        logger.warning("selected with %s = %s, but the model's events with %s", key, given.get(key), trained.get(key))


if __name__ == "__main__":
    cli.run(main, arg_parser())
