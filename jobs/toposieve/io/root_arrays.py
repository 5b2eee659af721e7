"""Values of a ROOT tree's branches as arrays, a few entries at a time: one request of a store for all their baskets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import awkward as ak
import uproot


def entry_bytes(branches: Sequence[uproot.TBranch], entries: int) -> float:
    """Mean uncompressed size of an entry of these branches."""
    return max(1.0, sum(int(branch.uncompressed_bytes) for branch in branches) / max(1, entries))


def read_arrays(
    tree: uproot.TTree, branches: Sequence[uproot.TBranch], start: int, stop: int, step: int
) -> Iterator[dict[str, ak.Array]]:
    """Values of the branches by their cache keys, for ``step`` entries at a time.

    Each basket is read and decompressed once, and kept until no later step needs it.
    """
    baskets: list[Any] = []
    for first in range(start, stop, step):
        last = min(first + step, stop)
        kept = {
            (branch.cache_key, number): basket
            for branch, number, basket in baskets
            if basket.entry_start_stop[1] > first
        }
        baskets = [
            (branch, number, kept.get((branch.cache_key, number), place))
            for branch in branches
            for number, place in branch.entries_to_ranges_or_baskets(first, last)
        ]
        yield _arrays(tree, branches, baskets, first, last)


def _arrays(
    tree: uproot.TTree, branches: Sequence[uproot.TBranch], baskets: list[Any], first: int, last: int
) -> dict[str, ak.Array]:
    """What ``tree.arrays`` does: one request for all baskets, which are kept in the list.

    That itself looks each branch up among all, which takes half a minute for the thousand of a Delphes file; and
    ``branch.array`` makes one request for each branch.
    """
    arrays: dict[str, ak.Array] = {}
    uproot.behaviors.TBranch._ranges_or_baskets_to_arrays(
        tree,
        baskets,
        {branch.cache_key: branch.interpretation for branch in branches},
        first,
        last,
        tree.file.decompression_executor,
        tree.file.interpretation_executor,
        uproot.interpretation.library.Awkward(),
        arrays,
        True,
        {"ak_add_doc": False},
    )
    return arrays
