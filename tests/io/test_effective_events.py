"""Which weights of a class are refused, and what is said of them; from manifests alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from toposieve import schema
from toposieve.config import PreparationConfig
from toposieve.errors import InvalidInputError
from toposieve.io.datasets import SelectedInputs
from toposieve.io.effective_events import check_weights
from toposieve.io.manifests import Manifest, Unit, weight_fields
from toposieve.io.store import Key
from toposieve.weights import WeightSums

LEAST = PreparationConfig().effective_events_min
GOOD = [1.0, 0.5, 2.0]


def unit(source: str, weights: Sequence[float], start: int = 0) -> Unit:
    """Selected events of one range of a file."""
    return Unit(
        source=source,
        source_checksum="",
        entry_start=start,
        entry_stop=start + 1,
        counts=dict.fromkeys(schema.CUTFLOW, len(weights)),
        **weight_fields(dict.fromkeys(schema.CUTFLOW, WeightSums.of(weights))),
        outputs=(),
    )


def inputs(qcd: dict[str, Sequence[float]], *unweighted: str) -> SelectedInputs:
    """One partition: files of qcd with these weights, those without ``Event.Weight``, and good other samples."""
    units = [unit(f"{sample}/d/a.root", GOOD) for sample in schema.SAMPLES if sample != "qcd"]
    units += [unit(f"qcd/d/{name}.root", weights) for name, weights in qcd.items()]
    notes = tuple(f"qcd/d/{name}.root: {schema.UNWEIGHTED}" for name in unweighted)
    manifest = Manifest(stage="select", config_hash="", config={}, units=tuple(units), notes=notes, code_version="test")
    return SelectedInputs(Key("/nowhere"), {"d": manifest}, schema.SAMPLES)


def test_good_weights_are_said_with_their_effective_events(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    check_weights(inputs({"a": GOOD, "b": [-1.0, 1.0, 1.0]}), LEAST)
    assert "qcd: 6 selected events, 2.5 effective ones; 15.4 % of their weight is negative" in caplog.text
    assert "WARNING" not in caplog.text


def test_a_file_without_weights_among_light_ones_is_refused_and_named() -> None:
    files = {"bare": [1.0] * 3, **{f"f{number}": [1e-9] * 100 for number in range(9)}}
    with pytest.raises(InvalidInputError) as caught:
        check_weights(inputs(files, "bare"), LEAST)
    assert str(caught.value) == (
        "qcd: 903 selected events count as 3 effective ones, (Σw)² / Σw², less than effective_events_min (0.01) of "
        "them: qcd/d/bare.root (mean |weight| 1, no Event.Weight) beside 9 other files (mean |weight| 1e-09); weigh "
        "all files of a class alike, and ingest and select again, or lower effective_events_min"
    )
    check_weights(inputs(files, "bare"), 0)


def test_the_heaviest_few_files_are_named() -> None:
    heavy = {f"h{number}": [1000.0 + number] for number in range(5)}
    with pytest.raises(
        InvalidInputError, match=r"h4.root .*, qcd/d/h3.root .*, qcd/d/h2.root .*\) beside 3 other"
    ) as caught:
        check_weights(inputs({**heavy, "light": [1e-3] * 1000}), LEAST)
    assert "h1.root" not in str(caught.value)


def test_a_file_without_weights_is_said_though_it_may_be_taken(caplog: pytest.LogCaptureFixture) -> None:
    check_weights(inputs({"bare": [1.0] * 3, "b": [0.1, 0.1], "c": [0.4]}, "bare"), LEAST)
    assert (
        "qcd: in 1 files without Event.Weight each event counts 1, beside a mean |weight| of 0.2 in 2 others"
    ) in caplog.text
    caplog.clear()
    check_weights(inputs({"bare": [1.0] * 3, "other": [1.0]}, "bare", "other"), LEAST)
    assert not caplog.text


def test_weights_that_are_all_zero_are_refused() -> None:
    problem = (
        "qcd: 2 selected events count as 0 effective ones.*every weight is 0; write weights, or leave Event.Weight out"
    )
    with pytest.raises(InvalidInputError, match=problem):
        check_weights(inputs({"a": [0.0], "b": [0.0]}), LEAST)


@pytest.mark.parametrize("weights", [[1.0, -1.0] * 50, [1.0, -2.0] * 50, [1.0] * 52 + [-1.0] * 48])
def test_weights_that_cancel_are_refused(weights: list[float]) -> None:
    problem = "effective ones.*% of their weight is negative; take a sample with fewer negative weights, or lower"
    with pytest.raises(InvalidInputError, match=problem):
        check_weights(inputs({"a": weights[:30], "b": weights[30:]}), LEAST)


def test_forty_per_cent_of_negative_weights_are_taken() -> None:
    check_weights(inputs({"a": [1.0] * 60, "b": [-1.0] * 40}), LEAST)


def test_a_class_without_events_is_left_to_those_who_count_them() -> None:
    check_weights(inputs({"a": []}), LEAST)


def test_a_selection_without_sums_of_squares_is_refused() -> None:
    known = inputs({"a": GOOD})
    old = known.manifests["d"].units[-1].model_copy(update={"squared_weights": {}})
    manifest = known.manifests["d"].model_copy(update={"units": (*known.manifests["d"].units[:-1], old)})
    with pytest.raises(InvalidInputError, match=r"d selected by code that kept no squares .* run select_events.py"):
        check_weights(SelectedInputs(known.base, {"d": manifest}, schema.SAMPLES), LEAST)
