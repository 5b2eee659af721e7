import json
import subprocess
import sys
from pathlib import Path

import pytest

from toposieve.evaluation import table

METRICS = {
    "classes": ["qcd", "ttbar"],
    "models": {
        "hlf": {
            "auc": {"qcd": {"value": 0.97654, "error": 0.00211}, "ttbar": {"value": None, "error": None}},
            "accuracy": {"value": 0.9, "error": 0.01},
        },
        "inclusive": {
            "auc": {"qcd": {"value": 0.98, "error": 0.002}, "ttbar": {"value": 0.5, "error": None}},
            "accuracy": {"value": 0.91, "error": 0.01},
        },
    },
    "differences": [
        {
            "model": "inclusive",
            "reference": "hlf",
            "auc": {"qcd": {"value": 0.00346, "error": 0.001}, "ttbar": {"value": -0.1, "error": 0.02}},
            "accuracy": {"value": 0.01, "error": 0.004},
        }
    ],
    "test": {"qcd": {"events": 1200}, "ttbar": {"events": 7}},
    "configuration": {"evaluation": {"bootstrap_samples": 200}},
}

EXPECTED = """\
AUC              qcd               ttbar             accuracy
---------------------------------------------------------------------
hlf              0.9765 ± 0.0021   n/a               0.9000 ± 0.0100
inclusive        0.9800 ± 0.0020   0.5000 ± ?        0.9100 ± 0.0100
inclusive - hlf  +0.0035 ± 0.0010  -0.1000 ± 0.0200  +0.0100 ± 0.0040

Area under the ROC curve of each class against the rest, weighted.
Test events: 1,200 qcd, 7 ttbar; errors from 200 bootstrap resamplings."""


def test_table():
    assert table.format_table(METRICS) == EXPECTED


def test_command_prints_the_table(tmp_path, capsys):
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    assert table.main([str(tmp_path / "metrics.json")]) == 0
    assert capsys.readouterr().out == EXPECTED + "\n"


@pytest.mark.parametrize("arguments", [[], ["missing.json"]])
def test_command_says_what_is_wrong(arguments, capsys):
    assert table.main(arguments) == 2
    assert "METRICS_JSON" in (error := capsys.readouterr().err) or "missing.json" in error


def test_command_refuses_what_is_not_json(tmp_path, capsys):
    (tmp_path / "metrics.json").write_text("{")
    assert table.main([str(tmp_path / "metrics.json")]) == 2
    assert "metrics.json" in capsys.readouterr().err


def test_command_needs_the_standard_library_alone(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    jobs = Path(table.__file__).parents[2]
    # -I and -S: neither the environment's packages nor its paths.
    module = "toposieve.evaluation.table"
    code = f"import sys, runpy; sys.path.insert(0, {str(jobs)!r}); runpy.run_module('{module}', run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", code, str(tmp_path / "metrics.json")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == EXPECTED + "\n"
