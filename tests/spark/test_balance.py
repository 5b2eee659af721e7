"""How items go out to tasks."""

from __future__ import annotations

import doctest

import pytest

from toposieve.spark import balance as balance_module
from toposieve.spark.balance import EVENTS_PER_TASK, LEAST_EVENTS, LEAST_TASKS, balance, number_of_tasks


def test_balance_starts_with_the_heaviest_and_evens_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance_module, "LEAST_TASKS", 3)
    monkeypatch.setattr(balance_module, "LEAST_EVENTS", 1)
    weights = [1, 2, 3, 4, 100, 50, 50, 0]
    shares = [[weights[number] for number in share] for share in balance(weights)]
    assert shares == [[100], [50, 4, 1, 0], [50, 3, 2]]


def test_every_item_has_one_task() -> None:
    shares = balance([number % 7 for number in range(1000)])
    assert sorted(number for share in shares for number in share) == list(range(1000))


def test_empty_items_are_spread_too() -> None:
    assert {len(share) for share in balance([0] * 2 * LEAST_EVENTS)} == {LEAST_EVENTS}


@pytest.mark.parametrize(
    ("items", "events", "tasks"),
    [
        (0, 0, 0),
        (3, 10, 1),
        (3, LEAST_EVENTS, 3),
        (3, 10 * EVENTS_PER_TASK, 3),
        (1000, 10, 10_000 // LEAST_EVENTS),
        (1000, LEAST_EVENTS, LEAST_TASKS),
        (1000, EVENTS_PER_TASK // 10, 100),
        (1001, EVENTS_PER_TASK // 10, 101),
    ],
)
def test_the_work_decides_the_number_of_tasks(items: int, events: int, tasks: int) -> None:
    assert len(balance([events] * items)) == tasks
    assert number_of_tasks(items, items * events) == tasks


def test_examples_are_right() -> None:
    assert doctest.testmod(balance_module).failed == 0
