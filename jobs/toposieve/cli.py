"""What every job's command line shares: ``--base``, ``--config``, ``--set``, logging and exit codes."""

from __future__ import annotations

import argparse
import errno
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from toposieve import cost, environment
from toposieve.config import ConfigT, StageConfig, load_config
from toposieve.cost import Work
from toposieve.errors import INVALID_INPUT_EXIT_CODE, ConflictError, InvalidInputError, UnavailableError, is_transient
from toposieve.io.history import history
from toposieve.io.publication import Publication
from toposieve.io.stages import Options
from toposieve.io.store import Key, root_key
from toposieve.io.sweep import KEPT_HOURS

RETRY_EXIT_CODE = 1
"""Exit code of a job that lost to another run or could not reach a store: as any other error that may be retried."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

NumberT = TypeVar("NumberT", int, float)
logger = logging.getLogger(__name__)


def job_parser(doc: str, config: type[StageConfig]) -> argparse.ArgumentParser:
    """Parser with the options that all jobs share; its help lists the keys of the stage's configuration.

    Args:
        doc: The job module's docstring: purpose, command and expected output.
        config: The stage's configuration class.
    """
    parser = base_parser(doc, _describe_keys(config))
    parser.add_argument("--config", metavar="JSON", help="configuration: a JSON object, or the path of a file with one")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="set one configuration key (VALUE is JSON, or plain text); may be given several times",
    )
    return parser


def base_parser(doc: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Parser of a job without a configuration."""
    parser = argparse.ArgumentParser(
        description=doc, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--base",
        required=True,
        help="where all data lives (raw/, events/, ...): a path, s3://BUCKET/..., hdfs://HOST/...",
    )
    return parser


def add_raw_argument(parser: argparse.ArgumentParser) -> None:
    """Option of the jobs that read or write ROOT files."""
    parser.add_argument("--raw", help="where ROOT files are, if not in raw/ of the base; root://HOST//... is read only")


def base_key(args: argparse.Namespace) -> Key:
    """Where all data lives."""
    return root_key("--base", args.base)


def raw_key(args: argparse.Namespace) -> Key:
    """Where ROOT files are."""
    return root_key("--raw", args.raw) if args.raw else base_key(args) / "raw"


def add_bad_file_argument(parser: argparse.ArgumentParser) -> None:
    """Option of the jobs that read ROOT files."""
    parser.add_argument(
        "--on-bad-file",
        choices=("fail", "quarantine"),
        default="fail",
        help="stop at a bad file (default), or go on without it and list it in the manifest",
    )


def options(args: argparse.Namespace) -> Options:
    """How the command line wants the jobs that read ROOT files to go about it."""
    return Options(args.on_bad_file == "quarantine", args.recompute, args.verify)


def add_spark_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the jobs that run on Spark."""
    parser.add_argument(
        "--verify", action="store_true", help="compare what is there with its checksums; what is damaged is made again"
    )
    parser.add_argument(
        "--plan",
        metavar="CORES",
        nargs="?",
        type=_cores,
        const=len(os.sched_getaffinity(0)),
        help="only show what there is to do and what it takes, on so many cores (default: those of this machine)",
    )
    add_master_argument(parser)


def add_master_argument(parser: argparse.ArgumentParser) -> None:
    """Option of whatever runs on Spark."""
    parser.add_argument("--master", help="Spark master, for example local[4]; default: spark-submit's own, or local[*]")


def add_study_argument(parser: argparse.ArgumentParser) -> None:
    """Option of jobs that train what a search has found."""
    parser.add_argument(
        "--study",
        help="take the best configuration of this search, as tune.py has found it, but for what is given here",
    )


def _cores(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number of cores: give one from 1 on, for example 400")
    return int(text)


def shows_plan(args: argparse.Namespace, work: Callable[[], Mapping[str, Work]]) -> bool:
    """Print what a run would do and take, if that is all that was asked for.

    Args:
        args: The command line.
        work: Finds out what there is to do, writing nothing.
    """
    if args.plan is not None:
        works, (costs, origin) = work(), cost.load_costs()
        print(cost.describe(works, args.plan, cost.of_one_job(works, costs), origin))
    return args.plan is not None


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the jobs that publish into a folder of their own."""
    parser.add_argument("--replace", action="store_true", help="replace output of another configuration")
    parser.add_argument("--recompute", action="store_true", help="make everything anew, though it is there")
    add_history_argument(parser)
    parser.add_argument(
        "--sweep", action="store_true", help=f"remove leftovers now; otherwise those older than {KEPT_HOURS:.0f} hours"
    )


def add_history_argument(parser: argparse.ArgumentParser) -> None:
    """Option of all jobs with output."""
    parser.add_argument("--history", action="store_true", help="only show what the output has been, and when")


def add_kafka_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that say where Kafka is."""
    parser.add_argument("--brokers", metavar="HOST:PORT,...", help="Kafka's brokers, if --kafka does not name them")
    parser.add_argument("--kafka", type=Path, metavar="FILE", help="settings of Kafka's clients, lines key=value")


def add_stream_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the jobs that decide by the stream."""
    parser.add_argument("--name", default="topology", help="what models are published as (default: topology)")
    add_kafka_arguments(parser)
    parser.add_argument("--events", default="events", help="topic to read (default: events)")
    parser.add_argument("--decisions", default="decisions", help="topic to write (default: decisions)")
    parser.add_argument("--refused", default="refused", help="topic of what is no event (default: refused)")
    parser.add_argument("--target", type=float, help="working point that decides; default: the model's highest")


def between(kind: Callable[[str], NumberT], smallest: NumberT, largest: NumberT) -> Callable[[str], NumberT]:
    """Reads a number within bounds, on a command line."""

    def read(text: str) -> NumberT:
        with suppress(ValueError):
            number = kind(text)
            if smallest <= number <= largest:
                return number
        raise argparse.ArgumentTypeError(f"{text} is no {kind.__name__} from {smallest:,} to {largest:,}")

    return read


def end_by_signal() -> Callable[[], bool]:
    """Says whether the process was asked to end, from now on; the work at hand is finished first."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    return lambda: bool(asked)


def publication(args: argparse.Namespace, folder: Key) -> Publication:
    """The right to publish into a folder, as the command line wants it."""
    return Publication(folder, kept_hours=0.0 if args.sweep else KEPT_HOURS)


def look(folder: Key) -> Publication:
    """What is published in a folder, for a run that publishes nothing."""
    return Publication(folder).look()


def shows_history(args: argparse.Namespace, *folders: Key) -> bool:
    """Print the history of the output, if that is all that was asked for."""
    if args.history:
        for folder in folders:
            print(f"{folder}:", *history(folder), sep="\n")
    return bool(args.history)


def stage_config(args: argparse.Namespace, model: type[ConfigT], defaults: Mapping[str, Any] | None = None) -> ConfigT:
    """The stage's configuration from ``--config`` and ``--set``, which win over other defaults.

    Raises:
        InvalidInputError: A key or value is wrong; the message names it.
    """
    return load_config(model, args.config, dict(_parse_override(text) for text in args.overrides), defaults)


def run(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line, run ``main`` and exit: 0 done, 2 invalid input or configuration, 1 anything else."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a terminal need not know every letter
    logging.raiseExceptions = False  # who reads the log may go away (| head): the job does its work all the same
    try:
        environment.enter()
        args = parser.parse_args()
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stdout, force=True)
        main(args)
    except InvalidInputError as error:
        _exit(str(error), INVALID_INPUT_EXIT_CODE)
    except (ConflictError, UnavailableError) as error:
        _exit(str(error), RETRY_EXIT_CODE)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not _has_reader("\n"):
            sys.exit(RETRY_EXIT_CODE)
        where = f" ({error.filename})" if error.filename else ""
        if is_transient(error):
            _exit(f"{error.strerror or error}{where}: run the same command again when that is over", RETRY_EXIT_CODE)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"no space left under {args.base}{where}: free some and run the same command again"
        _exit(message, INVALID_INPUT_EXIT_CODE)
    finally:
        _has_reader()


def print_error(message: str) -> None:
    """Print an error, each line marked: Spark prints between them, and Airflow picks them out of the log."""
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr, flush=True)


def _has_reader(more: str = "") -> bool:
    """Whether somebody still reads the output (| head does not); if not, it goes nowhere, and Python ends quietly."""
    try:
        print(more, end="", flush=True)
    except BrokenPipeError:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return False
    return True


def _exit(message: str, code: int) -> None:
    print_error(message)
    sys.exit(code)


def _parse_override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise InvalidInputError(f"--set {text}: expected KEY=VALUE, for example --set seed=2")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _describe_keys(config: type[StageConfig]) -> str:
    lines = ["configuration keys (--set KEY=VALUE), with their defaults:"]
    for key, field in config.model_fields.items():
        default = field.get_default(call_default_factory=True)
        lines.append(f"  {key} = {json.dumps(default)}\n      {field.description}")
    return "\n".join(lines)
