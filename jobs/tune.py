"""Search for a model's best configuration, on Spark.

    python jobs/tune.py --base data --dataset demo --study first --set space=published

Trains one configuration after the other on {base}/datasets/{dataset}, many at a time, and keeps what came of each in
{base}/studies/{study}/: a search that was killed goes on. Writes best.json there, which train.py --study takes, for a
tree model train_trees.py --study. The log ends with the best ones and, for example, "done; best validation loss 0.1234;
train.py --study first takes best.json".
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from toposieve import cli
from toposieve.config import SearchConfig
from toposieve.io.names import path_key
from toposieve.models import training_job

if TYPE_CHECKING:
    from toposieve.tuning.study import Candidate

SHOWN = 10

logger = logging.getLogger("tune")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", SearchConfig)
    parser.add_argument("--dataset", required=True, help="name of the dataset under {base}/datasets")
    parser.add_argument("--study", required=True, help="name of the search, a folder under {base}/studies")
    parser.add_argument(
        "--replace", action="store_true", help="begin anew where the search there is of another dataset, space or code"
    )
    cli.add_master_argument(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Search, and write the best configuration."""
    from toposieve.spark.session import SparkOnDemand
    from toposieve.training.runs import BEST_FILE, STUDIES_DIRECTORY
    from toposieve.training.shards import open_dataset
    from toposieve.tuning.study import Search

    config, base = cli.stage_config(args, SearchConfig), cli.base_key(args)
    dataset = open_dataset(base / "datasets" / path_key("--dataset", args.dataset))
    search = Search(base / STUDIES_DIRECTORY / path_key("--study", args.study), dataset, config)
    search.claim(replace=args.replace)
    logger.info("searching for %s on %s, results in %s", config.model, dataset.directory, search.folder)
    with SparkOnDemand("tune", args.master) as spark:
        candidates = search.run(spark)
    _show(candidates)
    best, job = search.best_config(candidates[0]), training_job(config.model)
    (search.folder / BEST_FILE).write_text(json.dumps(best, indent=1) + "\n")
    logger.info(
        "done; best validation loss %.4f; %s --study %s takes %s", candidates[0].loss, job, args.study, BEST_FILE
    )


def _show(candidates: Sequence[Candidate]) -> None:
    logger.info("best of %d candidates: validation loss, trial, epochs, values", len(candidates))
    for each in candidates[:SHOWN]:
        logger.info("  %.4f  %5d  %4d  %s", each.loss, each.trial.number, each.epochs, json.dumps(each.trial.values))


if __name__ == "__main__":
    cli.run(main, arg_parser())
