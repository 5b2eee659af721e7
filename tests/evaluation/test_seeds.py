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


def results(auc, rate):
    """What ``metrics.json`` has of a model, with one class and one background."""
    point = {"target": 0.9, "background": {"qcd": {"false_positive_rate": rate}}}
    return {
        "auc": {"ttbar": {"value": auc, "error": 0.1}},
        "accuracy": {"value": auc / 2, "error": 0.1},
        "working_points": {"ttbar": [point]},
    }


def difference(model, reference):
    return {
        "model": model,
        "reference": reference,
        "auc": {"ttbar": {"value": 0.1, "error": 0.004}},
        "accuracy": {"value": 0.1, "error": 0.006},
        "working_points": {
            "ttbar": [
                {"target": target, "background": {"qcd": {"value": 0.02, "error": 0.008}}} for target in (0.9, 0.99)
            ]
        },
    }


@pytest.fixture
def groups():
    models = {"a": results(0.90, 0.1), "b": results(0.96, 0.3), "c": results(0.80, 0.2), "d": results(0.88, None)}
    return seeds.summarise(models, [["a", "b"], ["c", "d"]])


def test_groups_have_the_mean_and_spread_of_each_result(groups):
    first, second = groups
    assert first["labels"] == ["a", "b"]
    assert first["auc"]["ttbar"] == {"mean": pytest.approx(0.93), "spread": pytest.approx(0.06 / 2**0.5)}
    assert first["accuracy"] == {"mean": pytest.approx(0.465), "spread": pytest.approx(0.03 / 2**0.5)}
    rate = {"mean": pytest.approx(0.2), "spread": pytest.approx(0.2 / 2**0.5)}
    assert first["false_positive_rate"] == {"ttbar": [{"target": 0.9, "qcd": rate}]}
    assert second["false_positive_rate"]["ttbar"][0]["qcd"] == {"mean": 0.2, "spread": None}


def test_differences_have_both_errors_in_quadrature(groups):
    (with_errors,) = seeds.with_training_errors([difference("a", "c")], groups)
    training = (0.06**2 / 2 + 0.08**2 / 2) ** 0.5
    measured = with_errors["auc"]["ttbar"]
    assert measured["training_error"] == pytest.approx(training)
    assert measured["total_error"] == pytest.approx((training**2 + 0.004**2) ** 0.5)
    assert with_errors["accuracy"]["total_error"] == pytest.approx((training**2 / 4 + 0.006**2) ** 0.5)


def test_differences_of_what_passes_have_both_errors_where_two_seeds_of_each_have_the_same_target(groups):
    models = {"a": results(0.9, 0.1), "b": results(0.9, 0.3), "c": results(0.8, 0.2), "d": results(0.8, 0.3)}
    (with_errors,) = seeds.with_training_errors(
        [difference("a", "c")], seeds.summarise(models, [["a", "b"], ["c", "d"]])
    )
    first, last = (point["background"]["qcd"] for point in with_errors["working_points"]["ttbar"])
    training = (0.2**2 / 2 + 0.1**2 / 2) ** 0.5
    assert first["training_error"] == pytest.approx(training)
    assert first["total_error"] == pytest.approx((training**2 + 0.008**2) ** 0.5)
    assert last == {"value": 0.02, "error": 0.008, "training_error": None, "total_error": None}
    (with_errors,) = seeds.with_training_errors([difference("a", "c")], groups)  # one seed of c and d has no rate
    assert with_errors["working_points"]["ttbar"][0]["background"]["qcd"]["total_error"] is None


def test_a_run_without_other_seeds_has_no_known_error_of_training(groups):
    for pair in (("a", "single"), ("single", "a"), ("single", "other")):
        (with_errors,) = seeds.with_training_errors([difference(*pair)], groups)
        unknown = {"training_error": None, "total_error": None}
        assert with_errors["auc"]["ttbar"] == {"value": 0.1, "error": 0.004} | unknown
        assert with_errors["accuracy"] == {"value": 0.1, "error": 0.006} | unknown
