import re

import pytest

from support.evaluation_data import make_metrics
from toposieve.evaluation import report
from toposieve.evaluation.inputs import StageTime
from toposieve.evaluation.reference import PUBLISHED
from toposieve.evaluation.table import format_value

IMAGES = {name: name.encode() for name in report.EXPLANATIONS}
TIMES = [StageTime("events", "events/2026-01-01", 12.5, 25_000), StageTime("raw", "raw/qcd/2026-01-01", 3.0, None)]


@pytest.fixture
def metrics():
    return make_metrics()


def section_of(page, anchor):
    """One section's HTML."""
    return re.search(rf'<section id="{anchor}">.*?</section>', page, re.DOTALL).group()


def cells_of(text):
    """Rows of the table cells in some HTML."""
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


def test_every_section_is_there_and_in_the_contents(metrics):
    page = report.render(metrics, TIMES, IMAGES)
    sections = report.sections(metrics, TIMES, IMAGES, {})
    assert len({section.id for section in sections}) == len(sections) > 10
    for section in sections:
        assert f"<h2>{section.title}</h2>" in section_of(page, section.id)
        assert f'<a href="#{section.id}">{section.title}</a>' in page


def summary_of(page):
    """Lines of what to take from the page."""
    return re.findall("<li>(.*?)</li>", re.search(r'<div id="summary">.*?</div>', page, re.DOTALL).group())


def test_summary_names_the_best_models_and_what_limits_them(metrics):
    for model, accuracy, passing, kept in (("hlf", 0.8, 0.02, 0.6), ("inclusive", 0.7, 0.01, 0.5)):
        values = metrics["models"][model]
        values["accuracy"] = {"value": accuracy, "error": 0.01}
        last = values["working_points"]["ttbar"][-1]
        last["false_positive_rate"] = last["background"]["qcd"]["false_positive_rate"] = passing
        last["background"]["wjets"] |= {"false_positive_rate": 0.0, "upper_limit_95": 0.05}
        values["rate_budgets"]["ttbar"][0]["true_positive_rate"] = kept
    metrics["differences"][0]["accuracy"] = {"value": -0.1, "error": 0.04, "total_error": 0.06}
    background = metrics["differences"][0]["working_points"]["ttbar"][-1]["background"]  # of inclusive less hlf
    background["qcd"], background["wjets"] = ({"value": -0.02, "error": error} for error in (0.004, 0.02))
    metrics["test"]["wjets"]["effective_events"] = 30.0
    lines = summary_of(report.render(metrics, TIMES, IMAGES))
    assert lines[0] == (
        "hlf puts most events into their class: accuracy 0.8000 ± 0.0100. "
        "Less than twice the error of the difference below it: inclusive."
    )
    assert (
        "To keep 99 % of ttbar, inclusive lets the least through: 1 in 100 of qcd, none of wjets, less than 1 in 20 at "
        "95 %. Within 20 Hz of everything, hlf keeps most of ttbar: 60.0 %."
    ) in lines
    assert lines[-1].startswith(
        "The fewest test events are those of wjets, worth 30: a share of it below about 1 in 10"
    )


@pytest.mark.parametrize(
    ("errors", "alike"),
    [
        ([{"error": 0.001, "total_error": 0.004}, {"error": 0.001, "total_error": 0.02}], False),
        ([{"error": 0.001, "total_error": 0.02}, {"error": 0.001, "total_error": 0.02}], True),
        ([{"error": 0.02}, {"error": 0.02, "total_error": None}], True),
    ],
    ids=["one beyond", "none beyond", "one seed"],
)
def test_what_a_trigger_pays_is_compared_with_its_whole_error(metrics, errors, alike):
    """In the first words, and in a table."""
    for model, passing in (("hlf", 0.02), ("inclusive", 0.01)):
        metrics["models"][model]["working_points"]["ttbar"][-1]["false_positive_rate"] = passing
    (difference,) = metrics["differences"]
    assert (difference["model"], difference["reference"]) == ("inclusive", "hlf")
    point = difference["working_points"]["ttbar"][-1]
    point["background"] = {name: {"value": -0.02, **of} for name, of in zip(("qcd", "wjets"), errors, strict=True)}
    page = report.render(metrics, TIMES, IMAGES)
    (line,) = (each for each in summary_of(page) if each.startswith("To keep 99 % of ttbar"))
    assert ("Not more by twice the error of the difference: hlf." in line) == alike
    shown = [f"+0.0200 ± {of.get('total_error') or of['error']:.4f}" for of in errors]
    assert ["hlf", *shown] in cells_of(section_of(page, "roc"))


def test_summary_does_not_call_models_alike_whose_difference_is_beyond_its_error(metrics):
    metrics["differences"][0]["accuracy"] = {"value": 0.1, "error": 0.04}
    assert "Less than twice" not in summary_of(report.render(metrics, TIMES, IMAGES))[0]


def test_summary_leaves_out_what_is_undefined(metrics):
    for values in metrics["models"].values():
        values["accuracy"] = {"value": None, "error": None}
        values["working_points"] = {sample: [] for sample in metrics["classes"]}
    (line,) = summary_of(report.render(metrics, TIMES, IMAGES))
    assert line.startswith("The fewest test events are")


def test_every_plot_is_there_with_two_lines_of_explanation(metrics):
    page = report.render(metrics, TIMES, IMAGES)
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    assert len(figures) == len(report.EXPLANATIONS)
    assert all(figure.count("<p>") == 2 for figure in figures)


def test_an_imported_dataset_says_what_it_lacks(metrics):
    images = {name: png for name, png in IMAGES.items() if name not in ("cutflow", "features")}
    page = report.render(metrics | {"cutflow": []}, TIMES, images)
    for anchor in ("events", "features"):
        assert "The dataset was imported: it does not say." in section_of(page, anchor)
    assert page.count("<figure>") == len(images)


def test_page_loads_nothing_from_elsewhere(metrics):
    page = report.render(metrics, TIMES, IMAGES)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_results_equal_the_metrics(metrics):
    rows = cells_of(section_of(report.render(metrics, TIMES, IMAGES), "results"))
    for model, values in metrics["models"].items():
        expected = [format_value(values["auc"][name]) for name in metrics["classes"]]
        assert [model, *expected, format_value(values["accuracy"])] in rows
    (difference,) = metrics["differences"]
    expected = [format_value(difference["auc"][name], "+") for name in metrics["classes"]]
    assert ["inclusive - hlf", *expected, format_value(difference["accuracy"], "+")] in rows


def test_searches_show_their_best_trials_and_none_is_shown_without_any(metrics):
    rows = cells_of(section_of(report.render(metrics, TIMES, IMAGES), "search"))
    assert [row for row in rows if row] == [
        ["4", "0.4000", "0.005", "8", "cosine"],
        ["0", "0.5000", "0.001", "8", "cosine"],
        ["2", "0.6000", "0.003", "8", "cosine"],
    ]
    metrics["search"] = {}
    assert 'id="search"' not in report.render(metrics, TIMES, IMAGES)


def test_the_cost_of_a_decision_is_shown_for_those_that_were_timed(metrics):
    latency = {"hlf": [{"batch": 1, "p50": 0.00025, "p99": 0.0004}, {"batch": 1024, "p50": 0.002, "p99": 0.003}]}
    page = section_of(report.render(metrics, TIMES, IMAGES, latency), "cost")
    run = metrics["models"]["hlf"]
    described = ["hlf", f"{run['parameters']:,}", f"{run['bytes'] / 1000:,.0f}"]
    assert [row for row in cells_of(page) if row] == [
        [*described, "1", "0.25", "0.4", "4,000"],
        [*described, "1,024", "2", "3", "512,000"],
    ]
    assert "Not measured." in section_of(report.render(metrics, TIMES, IMAGES), "cost")


def test_a_model_that_is_missing_is_named_in_the_summary(metrics):
    assert "Not trained" not in report.render(metrics, TIMES, IMAGES)
    metrics["missing"] = ["particle_sequence"]
    lines = summary_of(report.render(metrics, TIMES, IMAGES))
    assert lines[-1] == "Not trained, and so not in this report: particle_sequence."


def test_working_points_equal_the_metrics(metrics):
    rows = cells_of(section_of(report.render(metrics, TIMES, IMAGES), "roc"))
    point = metrics["models"]["hlf"]["working_points"]["ttbar"][1]
    (row,) = [row for row in rows if row[:3] == ["hlf", "0.95", f"{point['threshold']:.4g}"]]
    assert row[3] == f"{point['true_positive_rate']:.4f} ± {point['true_positive_error']:.4f}"
    for cell, name in zip(row[4:], ("qcd", "wjets"), strict=True):
        rate = point["background"][name]["false_positive_rate"]
        low, high = point["background"][name]["interval"]
        assert cell == f"{rate:.4f} [{low:.4f}, {high:.4f}], 1 in {1 / rate:.3g}"


def test_a_working_point_without_background_shows_its_limit(metrics):
    point = metrics["models"]["hlf"]["working_points"]["qcd"][0]
    point["background"]["wjets"] |= {"false_positive_rate": 0.0, "upper_limit_95": 0.0123}
    assert "0 (&lt; 0.0123 at 95 %), none passes" in section_of(report.render(metrics, TIMES, IMAGES), "roc")


def test_rates_within_a_budget_and_budgets_that_none_meets(metrics):
    first, second = metrics["models"]["hlf"]["rate_budgets"]["ttbar"]
    second |= {"threshold": None}
    text = section_of(report.render(metrics, TIMES, IMAGES), "rates")
    total = first["rate"]["total"]
    (row,) = [row for row in cells_of(text) if row[:3] == ["hlf", "ttbar", "20"]]
    assert row[5] == f"{total['value']:,.4g} ± {total['error']:.3g} ± {total['cross_section_error']:.3g}"
    assert "No threshold of hlf for ttbar stays within 100 Hz." in text


def test_an_unknown_cross_section_is_named_in_place_of_rates(metrics):
    metrics["hertz"]["wjets"] = None
    text = section_of(report.render(metrics, TIMES, IMAGES), "rates")
    assert "No rates: the cross-section of wjets is not known." in text
    assert "<table" not in text


def test_calibration_is_shown_before_and_after(metrics):
    rows = cells_of(section_of(report.render(metrics, TIMES, IMAGES), "calibration"))
    measured = metrics["models"]["hlf"]["calibration"]
    (row,) = [row for row in rows if row[:1] == ["hlf"]]
    assert row[1] == f"{measured['as_trained']['expected_error']:.4f}"
    after = measured["with_temperature"]
    assert row[5:] == [f"{value:.4f}" for value in (after["brier"], after["loss"], measured["temperature"])]


def test_seeds_are_shown_with_their_spread_and_differences_with_both_errors(metrics):
    assert "over seeds" not in report.render(metrics, TIMES, IMAGES)
    value = {"mean": 0.9, "spread": 0.02}
    both = {"value": 0.1, "error": 0.01, "training_error": 0.02, "total_error": 0.0224}
    auc = dict.fromkeys(metrics["classes"], value)
    metrics["seeds"] = [{"labels": ["hlf", "inclusive"], "auc": auc, "accuracy": value}]
    metrics["differences"][0] |= {"auc": dict.fromkeys(metrics["classes"], both), "accuracy": both}
    rows = cells_of(section_of(report.render(metrics, TIMES, IMAGES), "results"))
    assert ["hlf, inclusive", "2", *["0.9000 ± 0.0200"] * 4] in rows
    assert ["inclusive - hlf", *["+0.1000 ± 0.0224"] * 4] in rows


def test_cutflow_shows_events_and_weights(metrics):
    rows = cells_of(section_of(report.render(metrics, TIMES, IMAGES), "events"))
    assert ["raw events", "120,000", "900", "800"] in rows
    assert ["raw events", "250,000.2", "900.0", "n/a"] in rows
    assert ["raw events", "12.5%", "0.0%", "n/a"] in rows
    assert ["raw events", "90,000.0", "900.0", "n/a"] in rows
    test = metrics["test"]["qcd"]
    assert ["qcd", "50", f"{test['weight']:.1f}", "0.0%", f"{test['effective_events']:.1f}"] in rows
    assert ["test split", "50", "50", "50"] in rows


def test_quarantined_files_and_remarks_are_shown_with_odd_names_escaped(metrics):
    metrics["quarantined"] = [{"source": "qcd/<script>.root", "reason": "truncated & broken"}]
    metrics["notes"] = ["ttbar/a.root: no MuonTight"]
    page = report.render(metrics, TIMES, IMAGES)
    text = section_of(page, "bad-files")
    assert ["qcd/&lt;script&gt;.root", "truncated &amp; broken"] in cells_of(text)
    assert ["1", "ttbar/a.root: no MuonTight"] in cells_of(text)
    assert "<script" not in page


def test_no_quarantined_file_is_said(metrics):
    assert "No input file was quarantined." in section_of(report.render(metrics, TIMES, IMAGES), "bad-files")


def test_published_results_stand_beside_ours(metrics):
    text = section_of(report.render(metrics, TIMES, IMAGES), "published")
    rows = cells_of(text)
    assert ["Inclusive, GRU", "0.9950", "0.9969", "0.9947", "0.9564", "2 h 02, T4"] in rows
    assert ["Random forest", "n/a", "0.9824", "0.9769", "0.9078", "Spark"] in rows
    assert len([row for row in rows if row]) == len(PUBLISHED) + len(metrics["models"])
    assert "another sample" in text


def test_configuration_versions_and_times_are_shown(metrics):
    page = report.render(metrics, TIMES, IMAGES)
    configuration = cells_of(section_of(page, "configuration"))
    assert ["working_points", "0.9, 0.95, 0.99"] in configuration
    assert ["btag_mask.qcd", "1"] in configuration
    assert ["numpy", "2.4.6"] in cells_of(section_of(page, "versions"))
    assert ["dataset", "abc1234"] in cells_of(section_of(page, "versions"))
    times = cells_of(section_of(page, "time"))
    assert ["events", "events/2026-01-01", "12.5", "25,000", "2,000"] in times
    assert ["raw", "raw/qcd/2026-01-01", "3.0", "n/a", "n/a"] in times


def test_learning_table_describes_the_runs(metrics):
    rows = cells_of(section_of(report.render(metrics, TIMES, IMAGES), "learning"))
    assert ["hlf", "2,013", "2", "2", "0.9000", "0.5000", "hlf/0123456789abcdef"] in rows


def test_undefined_metrics_are_shown_as_such(metrics):
    values = metrics["models"]["hlf"]
    values["auc"]["qcd"] = {"value": None, "error": None}
    values["working_points"]["qcd"] = []
    rows = cells_of(section_of(report.render(metrics, TIMES, IMAGES), "results"))
    assert next(row for row in rows if row and row[0] == "hlf")[1] == "n/a"
