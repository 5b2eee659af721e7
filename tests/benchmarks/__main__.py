"""Speed and memory of the hot paths, measured in one run on this machine.

    make bench                      # everything, about fifteen minutes on two cores
    make bench BENCH=selection      # one part: simulation, selection, preparation, publication, stores, training, pods

Rates are per CPU second, JVM and Python together, after a warm-up; ratios compare two ways of doing the same thing in
this run. Memory is the largest process. Data are simulated into a temporary folder. The part `pods` compares a training
gang on the cluster that KUBECONFIG names with the same one on this machine, in seconds.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import pods, preparation, publication, selection, simulation, stores, training
from benchmarks.table import Duration, Row, format_tables
from toposieve.spark.session import spark_session

PARTS: dict[str, Callable[[Path], Sequence[Row | Duration]]] = {
    "simulation": simulation.rows,
    "selection": selection.rows,
    "preparation": preparation.rows,
    "publication": publication.durations,
    "stores": stores.rows,
    "training": training.rows,
    "pods": pods.durations,
}
"""In order: each finds the data of those before it under the same base."""


def main() -> None:
    """Run the parts asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--base", type=Path, help="keep the data here, and find them again")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    # One session for all parts: the jobs find it, warm.
    with tempfile.TemporaryDirectory(prefix="toposieve-bench-") as temporary, spark_session("bench"):
        base = args.base or Path(temporary)
        figures: list[Row | Duration] = []
        for name in args.parts or PARTS:
            figures += PARTS[name](base)
    print(format_tables(figures))


if __name__ == "__main__":
    main()
