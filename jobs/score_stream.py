r"""Decide on events of a Kafka topic by Spark Structured Streaming, for those who run Spark anyway, and for replay.

    make kafka-jars
    python jobs/score_stream.py --base DATA --brokers HOST:9092 --events events --decisions decisions --refused refused
    python jobs/score_stream.py --base DATA --brokers HOST:9092 --decisions again --checkpoint DATA/again --replay

reads and writes the same records as serve.py, by the same scorer: one decision for each event, with the version of the
model, and what is no event goes to the topic of refused ones, with the reason as a header.

Each event is decided at least once. What is cut off, whatever is killed, is begun anew where the same command runs
again, and then some decisions are there twice: with the same key, the event's id, and the same bytes, since the same
version decides the batch again. Whoever must not see a decision twice keeps the first one of each key, or takes
serve.py, which is quicker too: here an event takes half a second or more. A newly published model, or a rollback, is
taken over between two batches.

--checkpoint has how far the stream is: a folder of one stream alone. With another one it begins with the oldest event
there is. --replay ends once all is decided that is there when it starts. The log says:

    batch 12: decided by version 3

--kafka and the variables TOPOSIEVE_KAFKA_... are as for serve.py, but have the keys of Kafka's Java clients:
TOPOSIEVE_KAFKA_SASL_JAAS_CONFIG sets sasl.jaas.config. Under spark-submit, its own --jars name the connector's jars.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from toposieve import cli, registry
from toposieve.environment import JOBS_FOLDER, is_submitted
from toposieve.errors import InvalidInputError
from toposieve.io.names import path_key
from toposieve.io.store import Key, root_key

JARS = JOBS_FOLDER.parent / ".kafka-jars"
"""Where ``make kafka-jars`` puts them."""
CHECKPOINTS = ("", "hdfs")
"""Schemes of stores that Spark can keep a checkpoint in."""


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.base_parser(__doc__ or "")
    cli.add_stream_arguments(parser)
    parser.add_argument(
        "--batch",
        type=cli.between(int, 1, 1_000_000),
        default=10_000,
        help="messages in a batch, at most (default: 10000)",
    )
    parser.add_argument("--checkpoint", help="how far the stream is (default: {base}/streams/{name}/{events})")
    parser.add_argument("--replay", action="store_true", help="end once all is decided that is there now")
    parser.add_argument("--jars", type=Path, default=JARS, help="folder of Kafka's connector for Spark")
    cli.add_master_argument(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Decide until ended, or until all is decided that is there."""
    from toposieve.serving.settings import client_settings
    from toposieve.spark.session import spark_session
    from toposieve.spark.streaming import SPARK_SETTINGS, BatchModels, Topics, check_topics, decide_stream

    settings, name = client_settings(args.kafka, os.environ, args.brokers), path_key("--name", args.name)
    topics = Topics(args.events, args.decisions, args.refused)
    checkpoint = _checkpoint(args, name)
    models = BatchModels(registry.registry_folder(cli.base_key(args), name), checkpoint / "versions", args.target)
    with spark_session("score-stream", args.master, {**SPARK_SETTINGS, **_connector(args.jars)}) as spark:
        stopped = cli.end_by_signal()
        check_topics(spark, settings, topics)
        decide_stream(
            spark,
            settings,
            topics,
            checkpoint / "spark",
            models,
            batch=args.batch,
            replay=args.replay,
            stopped=stopped,
        )


def _checkpoint(args: argparse.Namespace, name: str) -> Key:
    found = root_key("--checkpoint", args.checkpoint) if args.checkpoint else cli.base_key(args)
    if found.root.rpartition("://")[0] not in CHECKPOINTS:
        raise InvalidInputError(f"{found}: Spark cannot keep a checkpoint there: give --checkpoint PATH or hdfs://...")
    return found if args.checkpoint else found / "streams" / name / args.events


def _connector(folder: Path) -> dict[str, str]:
    """Settings that bring Kafka's connector, unless ``spark-submit`` does."""
    if is_submitted(os.environ):
        return {}
    jars = sorted(map(str, folder.glob("*.jar")))
    if not jars:
        raise InvalidInputError(
            f"{folder} has no jars of Kafka's connector for Spark: run make kafka-jars (needs mvn), or name its folder "
            "with --jars"
        )
    return {"spark.jars": ",".join(jars)}


if __name__ == "__main__":
    cli.run(main, arg_parser())
