"""How items are shared out to tasks of Spark. It follows from the work alone, so a plan knows it without Spark."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

LEAST_TASKS = 32
"""Tasks of a job, where it has as many items: enough for a machine's cores to finish together."""

LEAST_EVENTS = 500
"""Events that a task of several items has at least: fewer take less time than a task does."""

EVENTS_PER_TASK = 50_000
"""Events in a task of several items: what a lost task costs, at most, besides what its items have left behind."""


def number_of_tasks(items: int, events: int) -> int:
    """Tasks that so many items become.

    Args:
        items: Any number.
        events: In all of them; an item without any counts as one.

    >>> number_of_tasks(3, 10), number_of_tasks(1000, 20_000), number_of_tasks(40_000, 4_320_000)
    (1, 32, 87)
    """
    return min(items, max(min(LEAST_TASKS, -(-events // LEAST_EVENTS)), -(-events // EVENTS_PER_TASK)))


def balance(weights: Sequence[int]) -> list[list[int]]:
    """Share items out to tasks, heaviest first, each to the task with the least so far; heaviest task first.

    The number of tasks follows from the work alone: while executors are still coming, the cores are not known.

    Args:
        weights: Of the items.

    Returns:
        Numbers of each task's items.
    """
    tasks = number_of_tasks(len(weights), sum(max(weight, 1) for weight in weights))
    heap: list[tuple[int, int]] = [(0, task) for task in range(tasks)]
    shares: list[list[int]] = [[] for _ in range(tasks)]
    for number in sorted(range(len(weights)), key=lambda number: -weights[number]):
        load, task = heapq.heappop(heap)
        shares[task].append(number)
        # An empty item counts too: opening its file takes time.
        heapq.heappush(heap, (load + max(weights[number], 1), task))
    return sorted(shares, key=lambda share: -sum(weights[number] for number in share))
