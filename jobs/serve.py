r"""Decide on events of a Kafka topic by the published model, each exactly once, until ended (SIGTERM or Ctrl-C).

    python jobs/serve.py --base DATA --brokers HOST:9092 --events events --decisions decisions --refused refused

reads records of events (toposieve/serving/record.py has their layout) and writes one decision for each, with its logits
and the version of the model. Messages that are no events go to the topic of refused ones, with the reason, topic,
partition and offset as headers. Who reads decisions sets isolation.level=read_committed: then killed processes and
brokers neither lose nor double any. The log says:

    model: version 3 of /data/registry/topology
    partitions: [0, 1]
    model: version 4 takes over from version 3

Another version that is published, or a rollback, is taken over between two batches. One process uses one core: start as
many as the topic has partitions. With --instance, the same name each time, a process that was killed goes on at once.
Without, it is missed after 6 seconds, and its events wait until the brokers have ended what it had begun, 10 to 20
seconds after that began. TLS, passwords and all else that librdkafka knows come from the file of --kafka or from
variables: TOPOSIEVE_KAFKA_SASL_PASSWORD sets sasl.password. Brokers that are away are waited for.

With --port, /metrics has numbers for Prometheus, /health says whether the process works, /ready whether the brokers
answer.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from toposieve import cli, registry
from toposieve.io.names import path_key
from toposieve.io.store import Key
from toposieve.serving.following import FollowedModel, Model

LARGEST_BATCH = 10_000
"""All its answers wait in the memory of Kafka's client, which has room for ten times as many."""

logger = logging.getLogger("serve")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.base_parser(__doc__ or "")
    cli.add_stream_arguments(parser)
    parser.add_argument("--group", default="toposieve", help="processes of a group share the events")
    parser.add_argument("--instance", help="name of this process in its group, the same when it is started again")
    parser.add_argument(
        "--batch",
        type=cli.between(int, 1, LARGEST_BATCH),
        default=256,
        help="events in a transaction, at most (default: 256)",
    )
    parser.add_argument(
        "--wait",
        type=cli.between(float, 0, 1000),
        default=2.0,
        metavar="MS",
        help="milliseconds to wait for more events (default: 2)",
    )
    parser.add_argument(
        "--look",
        type=cli.between(float, 0.1, 3600),
        default=5.0,
        metavar="S",
        help="seconds between two looks at the registry (default: 5)",
    )
    parser.add_argument("--port", type=int, help="where to show metrics and health; default: nowhere")
    return parser


def main(args: argparse.Namespace, load: Callable[[Key, int], Model] | None = None) -> None:
    """Serve until ended.

    Args:
        args: The command line.
        load: Registry's folder and version → the model; None for the exported one.
    """
    from toposieve.serving.consumer import Route, Stream
    from toposieve.serving.metrics import Endpoint, Metrics
    from toposieve.serving.settings import client_settings

    settings = client_settings(args.kafka, os.environ, args.brokers)
    folder = registry.registry_folder(cli.base_key(args), path_key("--name", args.name))
    metrics = Metrics()
    route = Route(args.events, args.decisions, args.refused, args.group, args.instance)
    with ExitStack() as stack:
        if args.port is not None:
            logger.info("metrics: port %d", stack.enter_context(Endpoint(metrics, args.port)).port)
        load = load or partial(_load, args.target)
        model = stack.enter_context(FollowedModel(folder, load, metrics, args.look))
        logger.info("model: version %d of %s", model.take().version, folder)
        stream = Stream(
            settings, route, model.take, metrics, batch=args.batch, wait=args.wait / 1000, stopped=cli.end_by_signal()
        )
        stream.run()


def _load(target: float | None, folder: Key, version: int) -> Model:
    """A model that has decided once: what is compiled on the first event is compiled before it is in use."""
    import numpy as np

    from toposieve.io.selected import PARTICLE_RECORD
    from toposieve.schema import HIGH_LEVEL_FEATURES
    from toposieve.serving.events import Event
    from toposieve.serving.scorer import Scorer

    scorer = Scorer.load(folder, version, target)
    scorer.score([Event("none", np.zeros(len(HIGH_LEVEL_FEATURES), np.float32), np.zeros(1, PARTICLE_RECORD))])
    return scorer


if __name__ == "__main__":
    cli.run(main, arg_parser())
