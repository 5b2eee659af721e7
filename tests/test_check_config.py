import json

import pytest

from toposieve.check_config import check, main
from toposieve.config import STAGES
from toposieve.errors import InvalidInputError


def test_all_defaults_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([json.dumps({stage: model().model_dump(mode="json") for stage, model in STAGES.items()})]) == 0
    assert capsys.readouterr().err == ""


def test_every_stage_at_fault_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['{"selection": {"jet_pt_mn": 1}, "training": {"epochs": 0}, "ingest": {}}']) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith("error: ")
    assert "jet_pt_mn: unknown key" in errors[0]
    assert "epochs" in errors[1]


def test_several_configurations_of_a_stage_are_all_checked() -> None:
    searches = [{"model": model, "space": "published"} for model in ("hlf", "inclusive")]
    with pytest.raises(InvalidInputError, match="is of hlf, not of inclusive: set space to better"):
        check({"search": searches})
    check({"search": searches[:1]})
    check({"search": []})


def test_values_that_only_clash_together() -> None:
    with pytest.raises(InvalidInputError, match="below 1"):
        check({"preparation": {"train_fraction": 0.9, "validation_fraction": 0.2}})


def test_unknown_stage() -> None:
    with pytest.raises(InvalidInputError, match="unknown stage tuning"):
        check({"tuning": {}})


def test_places_of_unknown_kinds_are_named_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base", "ftp://host/data", "--raw", "gopher://host/raw", "{}"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: --base ftp://host/data: unknown scheme ftp://")
    assert second.startswith("error: --raw gopher://host/raw: unknown scheme gopher://")


def test_a_plain_path_is_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base", "/data", "{}"]) == 0
    assert capsys.readouterr().err == ""
