"""``--verify``: compare published files with their checksums, on Spark."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toposieve.io.manifests import Unit, adler32
from toposieve.io.store import Key
from toposieve.io.units import forget
from toposieve.spark.run import run_on_spark

if TYPE_CHECKING:
    from toposieve.io.publication import Publication
    from toposieve.io.stages import Options
    from toposieve.spark.session import SparkOnDemand

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerifyItem:
    """A published unit."""

    folder: Key
    unit: Unit

    @property
    def events(self) -> int:
        """Its events."""
        return self.unit.entry_stop - self.unit.entry_start


def is_intact(item: VerifyItem) -> bool:
    """Whether a unit's files hold the bytes that were published."""
    for output in item.unit.outputs:
        with (item.folder / output.path).fetch() as path:
            if adler32(path) != output.checksum:
                return False
    return True


def kept_units(
    publication: Publication, config_hash: str, code: int, spark: SparkOnDemand, options: Options
) -> list[Unit]:
    """Published units that a run need not make again, as the command line wants it."""
    if options.recompute:
        return []
    units = publication.reusable(config_hash, code)
    return intact(spark, publication.folder, units) if options.verify else units


def intact(spark: SparkOnDemand, folder: Key, units: Sequence[Unit]) -> list[Unit]:
    """Those units whose files are whole; others are named in the log, and so done again."""
    if not units:
        return []
    results = run_on_spark(spark(), is_intact, [VerifyItem(folder, unit) for unit in units], name="verifying").results
    for number, unit in enumerate(units):
        if not results[number]:
            logger.warning("%s is damaged; doing it again", folder / unit.outputs[0].path)
            forget(folder, unit.outputs[0].path)
    return [unit for number, unit in enumerate(units) if results[number]]
