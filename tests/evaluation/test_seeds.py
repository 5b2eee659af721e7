import pytest

from toposieve.evaluation import seeds


def test_runs_that_differ_in_their_seed_alone_are_a_group():
    runs = {
        "first": {"model": "hlf", "learning_rate": 0.1, "seed": 1},
        "tuned": {"model": "hlf", "learning_rate": 0.2, "seed": 2},
        "second": {"seed": 2, "learning_rate": 0.1, "model": "hlf"},
        "other": {"model": "inclusive", "learning_rate": 0.1, "seed": 3},
        "third": {"model": "hlf", "learning_rate": 0.1, "seed": 3},
    }
    assert seeds.seed_groups(runs) == [["first", "second", "third"]]


def test_one_run_under_two_labels_is_no_second_seed():
    run = {"model": "hlf", "seed": 1}
    assert seeds.seed_groups({"one": run, "same": dict(run)}) == []


def test_the_spread_is_that_of_single_runs():
    assert seeds.spread([0.90, 0.92, None, 0.94]) == pytest.approx(0.02)
    assert seeds.spread([0.9, None]) is None


def test_an_error_that_is_not_known_makes_the_whole_unknown():
    assert seeds.in_quadrature(0.3, 0.4) == pytest.approx(0.5)
    assert seeds.in_quadrature(0.3, 0.4, 1.2) == pytest.approx(1.3)
    assert seeds.in_quadrature(0.3, None) is None
