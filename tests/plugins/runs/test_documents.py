import doctest

import msgspec

from support.ui_results import metrics, unit
from toposieve_airflow.runs import documents
from toposieve_airflow.runs.documents import Manifest, Report, output_of


def manifest(*units: dict) -> Manifest:
    return msgspec.convert({"stage": "ingest", "config_hash": "0", "config": {}, "units": units}, Manifest)


def test_examples() -> None:
    assert doctest.testmod(documents).failed == 0


def test_counts_and_bytes_are_the_manifests_sums() -> None:
    units = [
        unit("qcd/d/a.root", {"events": 3}),
        unit("qcd/d/b.root", {"events": 4}),
        unit("ttbar/d/a.root", {"events": 5}),
    ]
    output = output_of(manifest(*units))
    assert output.bytes == 3000
    assert {name: sample.counts for name, sample in output.samples.items()} == {
        "qcd": {"events": 7},
        "ttbar": {"events": 5},
    }
    assert output.events("events") == 12
    assert output.manifest.units == []


def test_inputs_change_with_checksum_and_range_alone() -> None:
    one, other = unit("qcd/d/a.root", {"events": 3}), unit("qcd/d/a.root", {"events": 4})
    inputs = [output_of(manifest(each)).samples["qcd"].inputs for each in (one, other)]
    assert inputs[0] == inputs[1]
    for changed in ({"source_checksum": "ff"}, {"entry_stop": 9}, {"source_bytes": 1}):
        assert output_of(manifest({**one, **changed})).samples["qcd"].inputs != inputs[0]


def test_best_auc_of_models_that_have_one() -> None:
    content = metrics("r", models=["hlf", "inclusive"])
    undefined = {**content["models"]["hlf"], "auc": {"qcd": {"value": None, "error": None}}}
    report = msgspec.convert(
        {**content, "models": {"hlf": undefined, "inclusive": content["models"]["inclusive"]}}, Report
    )
    assert (report.best_auc("qcd"), report.best_auc("higgs")) == (0.9, -1.0)
