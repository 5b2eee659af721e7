"""``jobs/score_stream.py``, which kills itself when all answers of its third batch are with the broker.

    python -m support.mortal_stream ARGUMENTS...

Spark does not know of them yet, and has to begin that batch anew. As its second batch begins, it kills the
broker, which is the process of ``TOPOSIEVE_TEST_BROKER``.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import score_stream
from toposieve import cli
from toposieve.spark import streaming

BROKER_VARIABLE = "TOPOSIEVE_TEST_BROKER"
WITHOUT_BROKER, LAST = 1, 2
"""Batches."""

decide_batch = streaming.decide_batch


def decide_and_die(frame: Any, number: int, *rest: Any) -> None:
    if number == WITHOUT_BROKER:
        os.kill(int(os.environ[BROKER_VARIABLE]), signal.SIGKILL)
    decide_batch(frame, number, *rest)
    if number == LAST:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    streaming.decide_batch = decide_and_die
    cli.run(score_stream.main, score_stream.arg_parser())
