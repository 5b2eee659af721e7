"""Simulate samples for one partition: Pythia 8.3 events with pile-up, seen by a fast CMS-like detector.

    python jobs/simulate.py --base work --partition 2026-01-01 --set selected_events=1000

Writes ROOT files in the layout of Delphes into {base}/raw/{sample}/{partition}/simulated/ (or below --raw), and beside
that folder manifest-000001.json and on, of which the newest alone says what is there. The pile-up library under
{base}/raw/_pileup/ is made once and shared by all later runs. A sample that is complete is left alone; what a killed
run has left is taken over, and lost files are made again, identical to the byte. Ends with a line such as
"done: 6,431 new events of 3 samples in 231 s".
"""

from __future__ import annotations

import argparse
import logging
import time
from contextlib import ExitStack

from toposieve import cli
from toposieve.config import SimulationConfig
from toposieve.io.names import path_key

logger = logging.getLogger("simulate")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", SimulationConfig)
    parser.add_argument("--partition", required=True, help="production day (or any other key) to simulate")
    cli.add_raw_argument(parser)
    cli.add_output_arguments(parser)
    cli.add_spark_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """See what is missing, make it on Spark, publish."""
    from toposieve.simulation.campaign import Campaign, open_sample, simulate_samples
    from toposieve.spark.session import spark_session
    from toposieve.todo import simulate_work

    started = time.monotonic()
    config = cli.stage_config(args, SimulationConfig)
    partition = path_key("--partition", args.partition)
    campaign = Campaign(cli.raw_key(args), partition, config, recompute=args.recompute)
    folders = {sample: campaign.directory(sample) for sample in campaign.samples}
    if cli.shows_history(args, *folders.values()):
        return
    if cli.shows_plan(args, lambda: simulate_work(campaign, {name: cli.look(at) for name, at in folders.items()})):
        return
    logger.info("output %s", campaign.directory("{sample}"))
    with ExitStack() as stack:
        samples = [
            open_sample(campaign, sample, stack.enter_context(cli.publication(args, folder)), replace=args.replace)
            for sample, folder in folders.items()
        ]
        incomplete = [sample for sample in samples if sample.progress.files() is None]
        if not incomplete:
            logger.info("nothing to do: %s are complete", ", ".join(config.samples))
            return
        with spark_session("simulate", args.master) as spark:
            events = simulate_samples(spark, campaign, incomplete)
    logger.info(
        "done: %s new events of %d samples in %.0f s", f"{events:,}", len(incomplete), time.monotonic() - started
    )


if __name__ == "__main__":
    cli.run(main, arg_parser())
