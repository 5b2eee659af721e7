"""Units of work: made once, adopted ever after.

A unit's file has a name that follows from what decides its content (:func:`~toposieve.io.names.unit_name`). Its record
lies under ``_records`` until a manifest lists it, so that whoever comes next goes on, whatever ended the last run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from toposieve.io.manifests import Unit, describe_file
from toposieve.io.names import RECORDS
from toposieve.io.store import Key

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """A finished unit, and who made it."""

    unit: Unit
    adopted: bool
    """Whether an earlier run did, which has not published it."""


def adopt_or_make(folder: Key, name: str, make: Callable[[Path], Unit], *, adopt: bool = True) -> Finished:
    """The unit of a name: as an earlier run left it, or made now.

    Args:
        folder: The stage's output folder.
        name: The unit's file, relative to it.
        make: Writes the file at a path of this machine; returns the unit's record, its outputs left empty.
        adopt: Look for what an earlier run left.

    Raises:
        InvalidInputError: Its input is bad.
    """
    unit = find_unit(folder, name) if adopt else None
    if unit is not None:
        return Finished(unit, adopted=True)
    with (folder / name).create() as path:
        made = make(path)
        file = describe_file(path, name)
    unit = made.model_copy(update={"outputs": (file,)})
    write_record(folder, name, unit)
    return Finished(unit, adopted=False)


def find_unit(folder: Key, name: str) -> Unit | None:
    """A unit that an earlier run has finished, by its record; None if there is none, or its files are gone."""
    try:
        unit = Unit.model_validate_json(_record(folder, name).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        logger.warning("%s is no record; doing it again", _record(folder, name))
        return None
    stats = [((folder / file.path).stat(), file.bytes) for file in unit.outputs]
    return unit if all(stat is not None and stat.size == size for stat, size in stats) else None


def write_record(folder: Key, name: str, unit: Unit) -> None:
    """Leave a finished unit's record; its files are there."""
    _record(folder, name).write_bytes(unit.model_dump_json().encode())


def forget(folder: Key, name: str) -> None:
    """Remove a unit's record, if there is one: it is to be made again, though its file is there."""
    _record(folder, name).delete()


def _record(folder: Key, name: str) -> Key:
    return folder / RECORDS / f"{name}.json"
