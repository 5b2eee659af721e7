"""Play a day's selected events into a Kafka topic, at a rate: for trying out serve.py and score_stream.py.

    python jobs/simulate.py --base DATA --partition 2026-01-01        # or ROOT files of your own
    python jobs/ingest.py --base DATA --partition 2026-01-01
    python jobs/select_events.py --base DATA --partition 2026-01-01
    python jobs/feed_stream.py --base DATA --partition 2026-01-01 --brokers HOST:9092 --events events --rate 200

Events come file by file, and the topic has to be there. An event's id, which is the message's key, is its file and
entry; with --again the day begins anew once it is over, with ids that end in #1, #2 and on, until the job is ended
(SIGTERM or Ctrl-C). TLS and passwords are given as to serve.py. Ends with a line such as

    done: 2,853 events into events in 14.3 s
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import time

from toposieve import cli
from toposieve.errors import InvalidInputError
from toposieve.io.names import path_key

logger = logging.getLogger("feed_stream")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.base_parser(__doc__ or "")
    cli.add_kafka_arguments(parser)
    parser.add_argument("--partition", required=True, help="name of a folder under {base}/selected")
    parser.add_argument("--events", default="events", help="topic to write (default: events)")
    parser.add_argument("--rate", type=float, default=200.0, help="events per second (default: 200)")
    parser.add_argument("--again", action="store_true", help="begin anew at the end, until ended")
    return parser


def main(args: argparse.Namespace) -> None:
    """Find the events, and produce them one by one."""
    from toposieve.serving.feeding import feed, open_topic, stored_events
    from toposieve.serving.settings import client_settings

    if not args.rate > 0:
        raise InvalidInputError(f"--rate {args.rate:g}: give the events per second, more than 0")
    started, stopped = time.monotonic(), cli.end_by_signal()
    folder = cli.base_key(args) / "selected" / path_key("--partition", args.partition)
    producer = open_topic(client_settings(args.kafka, os.environ, args.brokers), args.events)
    logger.info("input %s, output topic %s", folder, args.events)
    turns = itertools.count() if args.again else range(1)
    events = itertools.chain.from_iterable(stored_events(folder, turn) for turn in turns)
    sent = feed(producer, args.events, events, args.rate, stopped)
    logger.info("done: %s events into %s in %.1f s", f"{sent:,}", args.events, time.monotonic() - started)


if __name__ == "__main__":
    cli.run(main, arg_parser())
