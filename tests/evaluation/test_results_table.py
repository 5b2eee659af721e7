import json

import pytest

from support.evaluation_data import make_metrics
from toposieve.evaluation import results_table


@pytest.fixture
def metrics():
    made = make_metrics()
    second = json.loads(json.dumps(made["models"]["hlf"]))
    for quantity in second["auc"].values():
        quantity["value"] -= 0.02
    made["models"]["hlf_seed2"] = second
    made["seeds"] = [{"labels": ["hlf", "hlf_seed2"]}]
    return made


def costs_of(metrics):
    return dict.fromkeys(metrics["models"], results_table.Cost(None, ()))


def reported(base, metrics):
    """``metrics.json`` of a report below the base."""
    folder = base / "reports" / metrics["report"]
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder / "metrics.json"


def rows_of(text, first):
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {first} ")]


def test_seeds_are_one_row_of_their_mean_with_both_errors(metrics):
    areas, *_ = rows_of(results_table.results(metrics, costs_of(metrics)), "hlf")
    measured = metrics["models"]["hlf"]["auc"]["qcd"]
    expected = [measured["value"] - 0.01, measured["error"], 0.02 / 2**0.5]
    assert areas[:3] == ["hlf", "2", " ± ".join(f"{value:.4f}".lstrip("0") for value in expected)]
    assert areas[-2:] == ["2,013", ".9874 / .9855 / .9813"]


def test_each_background_is_rejected_by_itself_and_rates_are_of_all(metrics):
    text = results_table.results(metrics, costs_of(metrics))
    _, of_ttbar, of_wjets, _ = rows_of(text, "inclusive")
    points = metrics["models"]["inclusive"]["working_points"]["ttbar"]
    rejections = [1 / p["background"][name]["false_positive_rate"] for name in ("qcd", "wjets") for p in points]
    assert of_ttbar[1:7] == [f"{value:.3g}" for value in rejections]
    assert of_ttbar[7:] == [f"{p['rate']['total']['value']:.3g}" for p in points]
    assert of_wjets[1:] != of_ttbar[1:]
    assert "qcd rejection at 0.9 | qcd rejection at 0.95" in text


def test_where_nothing_passes_there_is_a_limit_and_what_is_unknown_is_a_dash(metrics):
    for point in metrics["models"]["inclusive"]["working_points"]["ttbar"]:
        point["background"]["qcd"] |= {"false_positive_rate": 0.0, "upper_limit_95": 0.05}
        point["rate"]["total"]["value"] = None
    _, of_ttbar, *_ = rows_of(results_table.results(metrics, costs_of(metrics)), "inclusive")
    assert of_ttbar[1:4] == ["> 20"] * 3
    assert of_ttbar[7:] == ["–"] * 3


def test_the_command_writes_between_its_lines_and_nowhere_else(metrics, tmp_path, capsys):
    source, readme = reported(tmp_path, metrics), tmp_path / "README.md"
    readme.write_text(f"before\n{results_table.START}\nold\n{results_table.END}\nafter\n")
    for _ in range(2):  # the second time it finds what it wrote
        assert results_table.main([str(source), str(readme)]) == 0
        tables = results_table.results(metrics, costs_of(metrics))
        assert readme.read_text() == f"before\n{results_table.START}\n\n{tables}\n\n{results_table.END}\nafter\n"
    readme.write_text("no place")
    assert results_table.main([str(source), str(readme)]) == 2
    assert "no lines <!-- results -->" in capsys.readouterr().err
    assert readme.read_text() == "no place"


def test_what_a_model_costs_is_that_of_its_first_seed_and_a_dash_where_it_is_not_known(metrics, tmp_path):
    for label, rate in ("hlf", 7654.3), ("hlf_seed2", 1.0):
        run = metrics["models"][label]["run"] = f"run-of-{label}"
        folder = tmp_path / "models" / "hlf" / run
        folder.mkdir(parents=True)
        (folder / "timing.json").write_text(json.dumps({"events_per_second": rate}))
    source, readme = reported(tmp_path, metrics), tmp_path / "README.md"
    calls = [{"batch": 1, "p50": 0.000284, "p99": 0.0004}, {"batch": 1024, "p50": 0.001, "p99": 0.002}]
    (source.parent / "timing.json").write_text(json.dumps({"seconds": 1, "latency": {"hlf": calls}}))
    readme.write_text(f"{results_table.START}\n{results_table.END}\n")
    assert results_table.main([str(source), str(readme)]) == 0
    *_, cost = rows_of(readme.read_text(), "hlf")
    assert cost == ["hlf", "7,700", "0.28", "0.4", "1,000,000"]
    *_, cost = rows_of(readme.read_text(), "inclusive")
    assert cost == ["inclusive", *"––––"]


def test_rows_for_other_models_stay_if_they_are_of_the_same_test_events(metrics, tmp_path):
    source, readme = reported(tmp_path, metrics), tmp_path / "README.md"
    readme.write_text(f"{results_table.START}\n{results_table.END}\n")

    def written() -> str:
        source.write_text(json.dumps(metrics))
        assert results_table.main([str(source), str(readme)]) == 0
        return readme.read_text()

    first = written()
    del metrics["models"]["inclusive"]
    metrics["models"]["hlf"]["accuracy"]["value"] = 0.5
    second = written()
    assert rows_of(second, "inclusive") == rows_of(first, "inclusive")
    assert rows_of(second, "hlf") == rows_of(results_table.results(metrics, costs_of(metrics)), "hlf")
    assert len(rows_of(second, "inclusive")) == len(rows_of(second, "hlf")) == 4
    metrics["test"]["qcd"]["events"] += 1
    third = written()
    assert not rows_of(third, "inclusive")
    assert rows_of(third, "hlf") == rows_of(second, "hlf")
