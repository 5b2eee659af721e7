import doctest

import pytest

from toposieve_airflow.ui import tables
from toposieve_airflow.ui.tables import ROWS, page_of


def test_examples() -> None:
    assert doctest.testmod(tables).failed == 0


@pytest.mark.parametrize(("number", "shown"), [(-1, 1), (0, 1), (1, 1), (2, 2), (3, 2)])
def test_the_nearest_page(number: int, shown: int) -> None:
    assert page_of(range(ROWS + 1), number).number == shown


@pytest.mark.parametrize(("rows", "last"), [(0, 1), (1, 1), (ROWS, 1), (ROWS + 1, 2)])
def test_no_page_is_empty_but_the_only_one(rows: int, last: int) -> None:
    assert page_of(range(rows), 1).last == last
    assert len(page_of(range(rows), last).rows) == (rows - 1) % ROWS + 1 if rows else True
