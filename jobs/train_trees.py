"""Train the tree models that networks are compared with, on Spark: a random forest, XGBoost and LightGBM.

    python jobs/train_trees.py --base data --dataset demo

Each is a run of its own, models/MODEL/RUN, that follows from dataset and configuration, and is scored on validation
and test data; a run that is complete is left as it is. With --study, the model that tune.py has searched for, by the
best configuration. The log names each run, for evaluate.py --labels, and ends with

    done: xgboost: validation loss 0.2312, validation accuracy 0.9123, validation auc qcd 0.9713, ...
"""

from __future__ import annotations

import argparse
import logging

from toposieve import cli
from toposieve.config import TreeConfig
from toposieve.errors import InvalidInputError
from toposieve.io.names import path_key

logger = logging.getLogger("train_trees")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", TreeConfig)
    parser.add_argument("--dataset", required=True, help="name of the dataset under {base}/datasets")
    cli.add_study_argument(parser)
    cli.add_master_argument(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Train what is not there yet, one model after the other."""
    from toposieve.io.manifests import fingerprint
    from toposieve.spark.session import SparkOnDemand
    from toposieve.training.runs import best_of_study
    from toposieve.tuning.tree_models import TreeData
    from toposieve.tuning.tree_runs import TreeRun

    base = cli.base_key(args)
    data = TreeData(base / "datasets" / path_key("--dataset", args.dataset))
    best = best_of_study(base, args.study, "train_trees.py", fingerprint(data.manifest))
    config = cli.stage_config(args, TreeConfig, best)
    if best and [*config.models] != best["models"]:
        raise InvalidInputError(f"--study {args.study} is of {best['models'][0]}: leave out models, or --study")
    with SparkOnDemand("trees", args.master) as spark:
        for model in config.models:
            TreeRun(base, data, model, config).train(spark)


if __name__ == "__main__":
    cli.run(main, arg_parser())
