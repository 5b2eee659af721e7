"""Register, compare and publish models, or go back to the one before.

    python jobs/publish_model.py register --base DATA --report demo --label inclusive
    python jobs/publish_model.py compare --base DATA --version 3
    python jobs/publish_model.py publish --base DATA --version 3 --who ada --why "half the rate of QCD"
    python jobs/publish_model.py rollback --base DATA --who ada --why "rate too high in run 7"
    python jobs/publish_model.py list --base DATA

`register` copies a model of a report, with all that it takes to use it, to {base}/registry/{name}/ as the version with
the next number, and compares it with what is published; a model that is a version already stays that version. `compare`
shows what would change: areas, rates and rejections, and the slices of events that got worse. The log has it as a table
and once more as one line of JSON, after "comparison: ". `decide` publishes the version if the configured rules are met,
and leaves the published one otherwise; who, when and why are kept, and `list` shows them. `rollback` publishes again
what was published before the present version, or --version, and a second one what was before that; tried again with the
same --order, it changes nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
from typing import Any

from toposieve import cli, registry
from toposieve.comparison import compare, format_comparison
from toposieve.config import PublicationConfig
from toposieve.errors import InvalidInputError
from toposieve.io.names import path_key
from toposieve.io.store import Key

ACTIONS = ("register", "compare", "decide", "publish", "rollback", "list")
NEEDED = {
    "register": ("report",),
    "compare": ("version",),
    "decide": ("version",),
    "publish": ("version", "who", "why"),
    "rollback": ("who", "why"),
    "list": (),
}
"""Action → options that it cannot do without."""
RULES = "rules"
"""Who publishes where nobody decides."""

logger = logging.getLogger("publish_model")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.job_parser(__doc__ or "", PublicationConfig)
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("--name", default="topology", help="what models are published as (default: topology)")
    parser.add_argument("--report", help="report that has the model to register")
    parser.add_argument("--label", help="what the report calls it; default: the one with the largest areas")
    parser.add_argument("--version", type=int, help="number of a version")
    parser.add_argument("--who", help="who decides")
    parser.add_argument("--why", help="the reason")
    parser.add_argument("--order", help="what asks for it, such as a run of Airflow, by its name")
    parser.add_argument(
        "--newest", type=int, help="publish only if no version above this one has been registered since"
    )
    parser.add_argument(
        "--after", type=int, help="publish only if this is still the number of the last publication (0: none)"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Do the action."""
    missing = [f"--{option}" for option in NEEDED[args.action] if getattr(args, option) is None]
    if missing:
        raise InvalidInputError(f"{args.action} needs {', '.join(missing)}: give it")
    config = cli.stage_config(args, PublicationConfig)
    base = cli.base_key(args)
    folder = registry.registry_folder(base, path_key("--name", args.name))
    if args.action == "list":
        print(*_listing(folder), sep="\n")
    elif args.action == "register":
        report = path_key("--report", args.report)
        _compare(folder, registry.register(base, args.name, report, args.label), config)
    elif args.action == "compare":
        _compare(folder, args.version, config)
    elif args.action == "decide":
        _decide(folder, args, config)
    elif args.action == "publish":
        _check_newest(folder, args)
        _tell(folder, registry.publish(folder, args.version, args.who, args.why, after=args.after, order=args.order))
    else:
        _tell(folder, registry.rollback(folder, args.who, args.why, version=args.version, order=args.order))


def _check_newest(folder: Key, args: argparse.Namespace) -> None:
    newest, last = registry.newest_version(folder), registry.published(folder)
    is_published = last is not None and last.pointer.version == args.version  # a run that was killed has done it
    if args.newest is not None and newest > args.newest and not is_published:
        raise InvalidInputError(f"version {args.version} was superseded by {newest}: decide on that one")


def _compare(folder: Key, number: int, config: PublicationConfig) -> dict[str, Any]:
    """Show what would change, and return it with the numbers of both versions, of the publication and of the newest."""
    candidate, last = registry.read_version(folder, number), registry.published(folder)
    present = registry.read_version(folder, last.pointer.version) if last else None
    numbers = {
        "name": folder.name,
        "version": number,
        "label": candidate.label,
        "published_version": last.pointer.version if last else None,
        "after": last.number if last else 0,
        "newest": registry.newest_version(folder),
    }
    found = numbers | compare(candidate, present, config)
    logger.info("version %d (%s) of %s:\n\n%s\n", number, candidate.label, folder, format_comparison(found))
    logger.info("comparison: %s", json.dumps(found, allow_nan=False))
    return found


def _decide(folder: Key, args: argparse.Namespace, config: PublicationConfig) -> None:
    found = _compare(folder, args.version, config)
    rules = "; ".join(f"{rule['rule']}: {rule['found']}" for rule in found["rules"] if rule["met"] is found["accepted"])
    if found["published_version"] == args.version:
        logger.info("version %d is published already: nothing to do", args.version)
    elif found["accepted"]:
        after = found["after"] if args.after is None else args.after
        _tell(folder, registry.publish(folder, args.version, args.who or RULES, args.why or rules, after=after))
    else:
        logger.info("not published, and the published one stays: %s", rules)


def _tell(folder: Key, number: int) -> None:
    pointer = registry.publication(folder, number).pointer
    logger.info("publication: %s", json.dumps({"name": folder.name, "number": number, **pointer.model_dump()}))


def _listing(folder: Key) -> list[str]:
    found = [f"version {number}: {version.label}" for number, version in registry.versions(folder).items()]
    acts = [
        f"{act.when} {act.action} version {act.version} by {act.who}: {act.why}" for _, act in registry.history(folder)
    ]
    return [*found, *acts] or [f"{folder} is empty: register a model of a report"]


if __name__ == "__main__":
    cli.run(main, arg_parser())
