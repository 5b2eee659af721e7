from pathlib import Path

import pytest

from support.airflow_environment import CONFIG_FOLDER
from toposieve_airflow.profile import load_profile
from toposieve_airflow.runs.params import ConfigurationSchema
from toposieve_airflow.runs.steps import Commands, topology_classifier_steps
from toposieve_demo import results


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What is run, in order; the third run of the chain fails."""
    lines: list[tuple[str, ...]] = []

    def run_chain(airflow, profile, conf, prefix):
        lines.append(("chain", *conf["models"]))
        return "work/reports/r" if len(lines) < 5 else None

    monkeypatch.setattr(results, "run_chain", run_chain)
    monkeypatch.setattr(results, "print_table", lambda profile, *arguments: lines.append(arguments))
    return lines


def test_the_table_is_written_after_each_part_until_one_fails(told) -> None:
    assert results.fill(None, None, {}) == 1
    written = ("results_table", "work/reports/r/metrics.json", str(Path(results.REPOSITORY) / "README.md"))
    first, second, third = (("chain", *part["models"]) for part in results.PARTS[:3])
    assert told == [first, written, second, written, third]


def test_models_that_are_trained_alike_are_one_report_and_the_readme_has_a_place_for_it() -> None:
    schema = ConfigurationSchema.load(CONFIG_FOLDER)
    profile = load_profile(CONFIG_FOLDER)
    stages = ("simulation", "ingest", "selection", "preparation", "search", "training", "trees", "evaluation")
    defaults = {name: param.resolve() for name, param in schema.stage_params(stages).items()}
    run = {
        "samples": schema.samples().value,
        "seeds": 1,
        "tune": [],
        "trees": [],
        "on_bad_file": "fail",
        "drop_missing": False,
        "replace": False,
    }
    reports = set()
    for part in results.PARTS:
        params = {**defaults, **run, **results.CONF, **part}
        reports.add(
            topology_classifier_steps(Commands("/data", params, schema), params, None, profile)["evaluate"]["label"]
        )
    assert len(reports) == 3  # the first part's, that of models of particles, and that of the dearest
    readme = (results.REPOSITORY / "README.md").read_text("utf-8")
    assert readme.index("<!-- results -->") < readme.index("<!-- end of results -->")
