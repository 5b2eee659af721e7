"""Train one model on a prepared dataset: alone, or as one worker of a gang.

    python jobs/train.py --base data --dataset demo --set model=inclusive

A gang is several of these processes with a TF_CONFIG each, the same folder under --base, and nothing else different;
it gives the same result as one process. The run's folder, models/MODEL/RUN, follows from dataset and configuration: a
retry goes on from its newest checkpoint, or from that of a run of fewer epochs, and a run that is complete is left as
it is. One process at a time writes there; the next try of a task takes over at once, if TOPOSIEVE_TASK names the task.
The log shows each epoch's end:

    epoch 1/6 done: loss 0.6127, accuracy 0.7609; validation loss 0.4410, accuracy 0.8333; 2.1 s, 1143 events/s
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from toposieve import cli
from toposieve.config import TrainingConfig
from toposieve.io.heartbeats import Claim
from toposieve.io.manifests import Manifest
from toposieve.io.names import path_key
from toposieve.io.store import Key, root_key
from toposieve.models import ARCHITECTURES
from toposieve.training.gang import (
    PEERS_MISSING_EXIT_CODE,
    Gang,
    PeersMissingError,
    exit_on_sigterm,
    gang_from_environment,
    meet,
    threads_per_worker,
)
from toposieve.training.runs import (
    CHECKPOINTS_DIRECTORY,
    METRICS_FILE,
    SAVED_MODEL_DIRECTORY,
    SAVED_MODEL_FILE,
    best_of_study,
    copy_metrics,
    finished_run,
    model_code,
    run_directory,
)
from toposieve.training.shards import Dataset, open_dataset

if TYPE_CHECKING:
    import tensorflow as tf

    from toposieve.training.loop import Task, Trained

logger = logging.getLogger("train")


def arg_parser() -> argparse.ArgumentParser:
    """Command line of this job."""
    parser = cli.job_parser(__doc__ or "", TrainingConfig)
    parser.add_argument("--dataset", required=True, help="name of the dataset under {base}/datasets")
    cli.add_study_argument(parser)
    parser.add_argument(
        "--startup-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="end with exit code 75 when the other workers cannot be reached within this time (default: %(default)s)",
    )
    parser.add_argument(
        "--cache-gb",
        type=float,
        default=0.0,
        metavar="GB",
        help="room in local scratch (TMPDIR) for copies of records that lie elsewhere, for all workers of a machine; "
        "default: 20, or half of what is free there",
    )
    parser.add_argument(
        "--replace", action="store_true", help="begin anew where the run is of a model that the code no longer makes"
    )
    parser.add_argument("--list", action=_ListModels, nargs=0, help="only show the models and their own keys")
    parser.add_argument(
        "--dry-run", action="store_true", help="only try a few steps, and show how many there are and what they take"
    )
    cli.add_history_argument(parser)
    return parser


class _ListModels(argparse.Action):
    """Shows the models, whatever else is asked for, as ``--help`` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        for name in ARCHITECTURES:
            values = TrainingConfig(model=name).parameters
            print(name, *(f"{key}={json.dumps(value)}" for key, value in values.items()))
        parser.exit()


def main(args: argparse.Namespace) -> None:
    """Train, and publish the results."""
    base = root_key("--base", args.base)
    gang = gang_from_environment(os.environ)
    _prefix_log(gang)
    dataset_dir = base / "datasets" / path_key("--dataset", args.dataset)
    dataset = open_dataset(dataset_dir)
    best = best_of_study(base, args.study, "train.py", dataset.fingerprint)
    config = cli.stage_config(args, TrainingConfig, best)
    directory = run_directory(base, dataset.fingerprint, config)
    if cli.shows_history(args, directory):
        return
    logger.info("training %s on %s, results in %s", config.model, dataset_dir, directory)
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    os.environ.update(grpc_proxy="")  # TensorFlow speaks gRPC with the peers alone, who are not behind a proxy
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads_per_worker(gang, len(os.sched_getaffinity(0)))))
    finished = finished_run(directory)
    if finished is not None and _is_of_same_model(directory, finished, config, dataset, args.replace):
        logger.info("complete already: nothing to do")
        if gang.is_chief and not args.dry_run:
            _restore(directory, finished)
        return
    from toposieve.training.loop import Task

    claim = Claim(directory / CHECKPOINTS_DIRECTORY, os.environ.get("TOPOSIEVE_TASK", ""))
    task = Task(config, dataset, gang, directory, args.replace, claim.check, round(args.cache_gb * 1e9))
    if args.dry_run:
        _rehearse(task)
        return
    with claim if gang.is_chief else nullcontext():
        _train_and_publish(task, args.startup_timeout)


def _restore(directory: Key, finished: Manifest) -> None:
    """Write again what lies beside a finished run's results, where it is not there."""
    if (directory / METRICS_FILE).stat() is None:
        copy_metrics(directory, finished)
    if (directory / SAVED_MODEL_DIRECTORY / SAVED_MODEL_FILE).stat() is None:
        from toposieve.training.results import write_saved_model

        write_saved_model(directory, finished)


def _rehearse(task: Task) -> None:
    from toposieve.training.rehearsal import rehearse

    print(rehearse(task))


def _is_of_same_model(
    directory: Key, finished: Manifest, config: TrainingConfig, dataset: Dataset, replace: bool
) -> bool:
    """Whether a finished run has trained the model that the code makes; it is built only where the code has changed.

    Raises:
        InvalidInputError: It has not, and is not to be replaced.
    """
    if finished.extra.get("model_code") == model_code():
        return True
    from toposieve.training.architectures import build_model
    from toposieve.training.checkpoints import ForeignCheckpointError, check_same_layers
    from toposieve.training.layers import describe_layers

    try:
        layers = describe_layers(build_model(config, len(dataset.classes)))
        check_same_layers(directory, finished.extra["layers"], layers)
    except ForeignCheckpointError:
        if not replace:
            raise
        return False
    return True


def _train_and_publish(task: Task, startup_timeout: float) -> None:
    from toposieve.training import loop, results
    from toposieve.training.steps import sum_over_workers

    exit_on_sigterm()
    _wait_for_peers(task, startup_timeout)
    # The peers were there a moment ago; should one have gone, this ends the process from outside Python.
    faulthandler.dump_traceback_later(startup_timeout, exit=True)
    try:
        strategy = _strategy(task.gang)
        exit_on_sigterm()
        trained = loop.train(task, strategy, faulthandler.cancel_dump_traceback_later)
    finally:
        faulthandler.cancel_dump_traceback_later()
    if task.gang.is_chief:
        results.publish(task, trained)
    sum_over_workers(strategy, np.zeros(1))  # no worker ends before the results are published: the others would fail
    _log_result(task, trained)


def _wait_for_peers(task: Task, timeout: float) -> None:
    try:
        meet(task.gang, task.run_directory.name, timeout)
    except PeersMissingError as error:
        logger.error("%s", error)
        sys.exit(PEERS_MISSING_EXIT_CODE)


def _log_result(task: Task, trained: Trained) -> None:
    from toposieve.training.loop import best_epoch

    best = best_epoch(trained.progress)
    results = trained.progress.history[best]
    logger.info(
        "done after %d epochs; best is epoch %d: validation loss %.4f, accuracy %.4f; results in %s",
        trained.progress.epoch,
        best + 1,
        results["validation_loss"],
        results["validation_accuracy"],
        task.run_directory,
    )


def _strategy(gang: Gang) -> tf.distribute.Strategy:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    tf.config.set_visible_devices(gpus[:1], "GPU")  # one replica per worker
    tf.config.experimental.enable_op_determinism()
    if gang.workers == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MultiWorkerMirroredStrategy()


def _prefix_log(gang: Gang) -> None:
    if gang.workers > 1:
        prefix = f"worker {gang.index}/{gang.workers} "
        for handler in logging.getLogger().handlers:
            handler.setFormatter(logging.Formatter(prefix + cli.LOG_FORMAT))


if __name__ == "__main__":
    cli.run(main, arg_parser())
