import json
import re

import pytest

from support.registry_data import write_base
from toposieve import registry
from toposieve.comparison import compare, format_comparison
from toposieve.config import PublicationConfig


@pytest.fixture
def versions(tmp_path):
    """Function from two models' metrics to their versions."""

    def make(candidate, published):
        base = write_base(tmp_path, inclusive=candidate, hlf=published)
        numbers = [registry.register(base, "topology", "r", label) for label in ("inclusive", "hlf")]
        return [registry.read_version(registry.registry_folder(base, "topology"), number) for number in numbers]

    return make


def changes(comparison):
    return {row["what"]: row["difference"] for row in comparison["changes"]}


def test_it_says_what_would_change(versions):
    found = compare(*versions({"auc": 0.97, "rate": 0.02, "hertz": 30.0}, {}), PublicationConfig())
    differences = changes(found)
    assert differences["AUC qcd"] == pytest.approx(0.02)
    assert differences["ttbar at 0.95: qcd false-positive rate"] == pytest.approx(-0.03)
    assert differences["ttbar at 0.95: wjets rejection"] == pytest.approx(25 - 10)
    assert differences["ttbar at 0.95: total Hz"] == pytest.approx(-20)
    assert found["same_events"]
    json.dumps(found, allow_nan=False)
    rows = [re.split("  +", line) for line in format_comparison(found).splitlines()]
    assert ["ttbar at 0.95: qcd false-positive rate", "0.02", "0.05", "-0.03 ± 0.014"] in rows
    assert ["ttbar at 0.95: qcd rejection", "50", "20", "30"] in rows


def test_every_working_point_is_a_quantity_of_its_own(versions):
    both = versions({"hertz": 30.0}, {})
    for version in both:
        (point,) = version.thresholds["ttbar"]
        hertz = point["rate"]["total"]["value"]
        version.thresholds["ttbar"] = [
            {"target": target, "rate": {"total": {"value": hertz + place}}}
            for place, target in enumerate((0.9, 0.99, 0.994, 0.999))
        ]
    rows = {row["what"]: row["candidate"] for row in compare(*both, PublicationConfig())["changes"]}
    hertz = {what: value for what, value in rows.items() if what.endswith("Hz")}
    assert hertz == {
        "ttbar at 0.90: total Hz": 30.0,
        "ttbar at 0.99: total Hz": 31.0,
        "ttbar at 0.994: total Hz": 32.0,
        "ttbar at 0.999: total Hz": 33.0,
    }


def test_a_first_candidate_is_compared_with_nobody(versions):
    candidate, _ = versions({}, {})
    found = compare(candidate, None, PublicationConfig())
    assert found["accepted"]
    assert set(changes(found).values()) == {None}
    assert found["worse_slices"] == []


@pytest.mark.parametrize(
    ("candidate", "worse"),
    [
        ({"rate": 0.08, "low": 0.07, "high": 0.09}, True),
        ({"rate": 0.06, "low": 0.05, "high": 0.07}, False),
        ({"rate": 0.02, "low": 0.01, "high": 0.03}, False),
    ],
)
def test_a_slice_is_worse_beyond_both_intervals_only(versions, candidate, worse):
    found = compare(*versions(candidate, {}), PublicationConfig())
    shares = f"0.050 to {candidate['rate']:.3f}"
    expected = [f"ttbar: qcd where nJets is 0, {shares}", f"ttbar: qcd where day is number 1 of 2, {shares}"]
    assert found["worse_slices"] == (expected if worse else [])


def test_days_of_another_dataset_are_others(versions):
    candidate, published = versions({"rate": 0.08, "low": 0.07, "high": 0.09}, {})
    candidate = candidate.model_copy(update={"lineage": {**candidate.lineage, "datasets/d": "another"}})
    found = compare(candidate, published, PublicationConfig())
    assert found["worse_slices"] == ["ttbar: qcd where nJets is 0, 0.050 to 0.080"]


@pytest.mark.parametrize(
    ("rules", "candidate", "accepted"),
    [
        ({}, {"auc": 0.946}, True),  # less by .004, with an error of .0042
        ({}, {"auc": 0.945}, False),
        ({"auc_errors": 2}, {"auc": 0.945}, True),
        ({"auc_min": 0.96}, {}, False),
        ({"rate_max": 60}, {}, True),
        ({"rate_max": 40}, {}, False),
        ({"rate_max": 60}, {"hertz": None}, False),
        ({"rate_max": 60, "rate_working_point": 0.5}, {}, False),
    ],
)
def test_rules_decide(versions, rules, candidate, accepted):
    assert compare(*versions(candidate, {}), PublicationConfig(**rules))["accepted"] is accepted


def test_a_candidate_that_lacks_a_class_is_not_accepted_and_shows_it(versions):
    candidate, published = versions({}, {})
    for of in (candidate.metrics["auc"], candidate.thresholds["ttbar"][0]["background"]):
        del of["wjets"]
    found = compare(candidate, published, PublicationConfig())
    assert not found["accepted"]
    unmet = [rule for rule in found["rules"] if not rule["met"]]
    assert [(rule["rule"], rule["found"]) for rule in unmet] == [
        ("wjets is told apart, as by the published model", "no such class")
    ]
    gone = [row["what"] for row in found["changes"] if row["candidate"] is None]
    assert gone == ["AUC wjets", "ttbar at 0.95: wjets false-positive rate", "ttbar at 0.95: wjets rejection"]
    rows = [line.rsplit(maxsplit=3) for line in format_comparison(found).splitlines()]
    assert ["AUC wjets", "n/a", "0.95", "n/a"] in rows
