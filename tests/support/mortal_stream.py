"""``jobs/score_stream.py``, which kills itself when all answers of its third batch are with the broker.

    python -m support.mortal_stream ARGUMENTS...

Spark does not know of them yet, and has to begin that batch anew.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import score_stream
from toposieve import cli
from toposieve.spark import streaming

BATCH = 2

decide_batch = streaming.decide_batch


def decide_and_die(frame: Any, number: int, *rest: Any) -> None:
    decide_batch(frame, number, *rest)
    if number == BATCH:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    streaming.decide_batch = decide_and_die
    cli.run(score_stream.main, score_stream.arg_parser())
