"""Speed and memory of the hot paths, measured in one run on this machine, against what they must and should be.

    make bench                                          # everything, about half an hour on two cores, 5 GB
    make bench BENCH=selection                          # one part: simulation, selection, preparation, publication, ...
    make bench BENCH="selection preparation --events 1000000 --base /data/bench"

Rates are per CPU second, JVM and Python together, after a warm-up: what another event costs, from runs of two sizes, so
that the fixed cost of a run is apart. Ratios compare with something of the same run, most often with the bare loop of
uproot and our kernels in one process. What must be reached is set as such a ratio, or scaled by how fast uproot reads
here. Memory is the largest process. Data are a few simulated events, multiplied, in a temporary folder. The part `pods`
compares a training gang on the cluster that KUBECONFIG names with the same one on this machine. Exits with 1 if a must
is missed, or a part ends with an error.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks import (
    calibration,
    evaluation,
    pods,
    preparation,
    profiling,
    publication,
    reading,
    search,
    selection,
    serving,
    simulation,
    steps,
    stores,
    training,
)
from benchmarks.inputs import Bench
from benchmarks.table import Figure, format_missed, format_table
from toposieve.spark import session

PARTS: dict[str, Callable[[Bench], Iterable[Figure]]] = {
    "simulation": simulation.rows,
    "selection": selection.rows,
    "preparation": preparation.rows,
    "root_source": selection.root_source_rows,
    "publication": publication.durations,
    "stores": stores.rows,
    "reading": reading.rows,
    "training": training.rows,
    "steps": steps.rows,
    "evaluation": evaluation.rows,
    "search": search.rows,
    "serving": serving.rows,
    "pods": pods.durations,
}
"""In order: each finds the data of those before it under the same base."""

LEAST_EVENTS = 10_000


def main() -> None:
    """Run the parts asked for, and print the table."""
    args = _arg_parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    figures: list[Figure] = []
    broken: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="toposieve-bench-") as temporary:
            broken += _measure(args, Path(temporary), figures)
    finally:  # what was measured before something went wrong was measured
        print(format_table(figures))
    if wrong := [*format_missed(figures).splitlines(), *(f"broken: {name}: see the error above" for name in broken)]:
        sys.exit("\n".join(wrong))


def _measure(args: argparse.Namespace, temporary: Path, figures: list[Figure]) -> Iterator[str]:
    """Add figures; what comes are the names of parts that have ended with an error."""
    os.environ[profiling.FOLDER_VARIABLE] = f"{temporary}/profiles"
    session.DEFAULTS["spark.python.daemon.module"] = profiling.__name__
    bench = Bench(args.base or temporary, args.events, args.units)
    parts = {**{name: PARTS[name] for name in args.parts or PARTS}, "calibration": calibration.rows}
    for name, part in parts.items():
        try:
            # The jobs of a part find a session, warm. Java never gives back what it took for another part.
            with session.spark_session("bench"):
                figures.extend(part(bench))
        except Exception:  # the others are measured all the same
            logging.exception("%s is broken", name)
            yield name


def _arg_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # Not choices: an empty list would have to be one of them.
    parser.add_argument("parts", nargs="*", metavar="PART", type=_part, help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--base", type=Path, help="keep the data here, and find them again")
    parser.add_argument(
        "--events",
        type=_events,
        default=100_000,
        help="events of the largest run, 10,000 at least (default: %(default)s)",
    )
    parser.add_argument("--units", type=int, default=2000, help="units of the run with most (default: %(default)s)")
    return parser


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"no such part: {name}; there are {', '.join(PARTS)}")
    return name


def _events(text: str) -> int:
    if int(text) < LEAST_EVENTS:
        raise argparse.ArgumentTypeError(f"{text}: at least {LEAST_EVENTS:,} are needed, for runs of three sizes")
    return int(text)


if __name__ == "__main__":
    main()
