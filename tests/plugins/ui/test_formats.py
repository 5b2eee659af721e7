import doctest
import math

import pytest

from toposieve_airflow.ui import formats


def test_examples() -> None:
    assert doctest.testmod(formats).failed == 0


@pytest.mark.parametrize("values", [[], [None], [math.nan]])
def test_a_curve_without_values_is_empty(values: list[float | None]) -> None:
    assert formats.sparkline(values) == ""


def test_a_flat_curve_stays_in_its_frame() -> None:
    assert formats.sparkline([1.0, 1.0, None]) == "0.0,20.0 45.0,20.0"
