"""Whether the weights of each class leave it enough effective events to learn from."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.datasets import SelectedInputs
from toposieve.io.manifests import Unit
from toposieve.weights import WeightSums

SELECTED = schema.CUTFLOW[-1]

_MOST_NAMED = 3
_HEAVY = 0.01
"""Files with less than this share of the heaviest one's Σw² are not to blame."""

_AGAIN = "and ingest and select again"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _File:
    """Selected events of one input file, at least one."""

    source: str
    events: int
    sums: WeightSums
    is_weighted: bool

    def __str__(self) -> str:
        remark = "" if self.is_weighted else f", no {schema.WEIGHT_BRANCH}"
        return f"{self.source} (mean |weight| {_mean([self]):.3g}{remark})"


def check_weights(inputs: SelectedInputs, least: float) -> None:
    """Check that no class comes down to a few heavy events, or to weights that cancel; log what each comes to.

    Args:
        inputs: Selected partitions.
        least: Least share of a class's selected events that its effective events may be.

    Raises:
        InvalidInputError: They are fewer; the message names the files that weigh most. Or a selection is too old for
            its weights to be known.
    """
    units = inputs.units
    old = sorted({each.folder.name for each in units if SELECTED not in each.unit.squared_weights})
    if old:
        raise InvalidInputError(
            f"{', '.join(old)} selected by code that kept no squares of weights: run select_events.py for each of them"
        )
    notes = {note for manifest in inputs.manifests.values() for note in manifest.notes}
    for sample in inputs.classes:
        by_source = defaultdict[str, list[Unit]](list)
        for each in units:
            if each.sample == sample and each.events:
                by_source[each.unit.source].append(each.unit)
        files = [_file(source, of_file, notes) for source, of_file in by_source.items()]
        _say_mixed(sample, files)
        _check_class(sample, files, least)


def _file(source: str, units: Sequence[Unit], notes: set[str]) -> _File:
    return _File(
        source,
        sum(unit.counts[SELECTED] for unit in units),
        WeightSums.merge(unit.weight_sums(SELECTED) for unit in units),
        is_weighted=f"{source}: {schema.UNWEIGHTED}" not in notes,
    )


def _mean(files: Sequence[_File]) -> float:
    """Mean |weight|."""
    return sum(file.sums.absolute for file in files) / sum(file.events for file in files)


def _say_mixed(sample: str, files: Sequence[_File]) -> None:
    unweighted = [file for file in files if not file.is_weighted]
    weighted = [file for file in files if file.is_weighted]
    if unweighted and weighted:
        logger.warning(
            "%s: in %d files without %s each event counts 1, beside a mean |weight| of %.3g in %d others",
            sample, len(unweighted), schema.WEIGHT_BRANCH, _mean(weighted), len(weighted),
        )  # fmt: skip


def _check_class(sample: str, files: Sequence[_File], least: float) -> None:
    events, sums = sum(file.events for file in files), WeightSums.merge(file.sums for file in files)
    effective = sums.effective_events if sums.total > 0 else 0.0
    share = f"{100 * sums.negative_share:.1f} % of their weight is negative"
    logger.info("%s: %s selected events, %.1f effective ones; %s", sample, f"{events:,}", effective, share)
    if effective >= least * events:
        return
    if not sums.absolute:
        problem = (
            f"every weight is 0; write weights, or leave {schema.WEIGHT_BRANCH} out (each event counts 1), {_AGAIN}"
        )
    elif sums.absolute**2 < least * events * sums.squares:
        problem = f"{_heaviest(files)}; weigh all files of a class alike, {_AGAIN}, or lower effective_events_min"
    else:
        problem = f"{share}; take a sample with fewer negative weights, or lower effective_events_min"
    raise InvalidInputError(
        f"{sample}: {events:,} selected events count as {effective:.3g} effective ones, (Σw)² / Σw², less than "
        f"effective_events_min ({least:g}) of them: {problem}"
    )


def _heaviest(files: Sequence[_File]) -> str:
    """Who has most of Σw², and what the others weigh."""
    ordered = sorted(files, key=lambda file: -file.sums.squares)
    heavy = [file for file in ordered[:_MOST_NAMED] if file.sums.squares >= _HEAVY * ordered[0].sums.squares]
    others = ordered[len(heavy) :]
    named = ", ".join(map(str, heavy))
    return f"{named} beside {len(others)} other files (mean |weight| {_mean(others):.3g})" if others else named
