import json

import numpy as np
import pytest

from support.evaluation_data import SEARCH
from toposieve.errors import InvalidInputError
from toposieve.evaluation import search, style
from toposieve.io.store import Key


@pytest.fixture(scope="module")
def figure():
    with style.page_style():
        return search.draw_searches({"a": SEARCH})


def labelled(axis, label):
    return next(line for line in axis.lines if line.get_label() == label)


def test_history_has_each_finite_trial_and_the_best_of_those_trained_to_the_end(figure):
    history = figure.axes[0]
    assert labelled(history, "epochs: 9").get_ydata().tolist() == [0.5, 0.6, 0.4]
    assert labelled(history, "epochs: 1").get_xdata().tolist() == [1]
    assert labelled(history, "best so far").get_ydata().tolist() == [0.5, 0.5, 0.4]


def test_the_key_that_matters_most_is_on_top(figure):
    axis = figure.axes[1]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["hlf units", "learning rate"]
    assert [bar.get_width() for bar in axis.patches] == [0.3, 0.7]
    assert axis.get_xlabel() == "share of the loss's variance, epochs: 9"


def test_where_nothing_is_known_of_the_keys_that_is_said():
    with style.page_style():
        axis = search.draw_searches({"a": {**SEARCH, "importances": {}}}).axes[1]
    assert [text.get_text() for text in axis.texts] == ["too few trials, or all alike"]


def test_each_key_has_a_panel_numbers_on_a_log_axis_and_others_by_name(figure):
    rate, units, schedule = figure.axes[2:]
    assert (rate.get_xlabel(), rate.get_xscale()) == ("learning rate", "log")
    assert [label.get_text() for label in units.get_xticklabels()] == ["[8]", "[64, 64]"]
    assert [label.get_text() for label in schedule.get_xticklabels()] == ["cosine"]
    points = {(x, y) for line in units.lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert points == {(0, 0.5), (1, 0.7), (0, 0.6), (0, 0.4)}


def test_many_values_are_named_in_part():
    trials = [{**SEARCH["trials"][0], "values": {"hlf_units": [n]}, "number": n} for n in range(20)]
    with style.page_style():
        axis = search.draw_searches({"a": {**SEARCH, "trials": trials}}).axes[2]
    assert len(axis.get_xticks()) <= search.MOST_TICKS
    np.testing.assert_array_equal(np.sort(np.concatenate([line.get_xdata() for line in axis.lines])), range(20))


def test_a_zero_is_shown_too():
    trials = [{**SEARCH["trials"][0], "values": {"dropout_rate": rate}} for rate in (0.0, 0.1, 0.2)]
    with style.page_style():
        axis = search.draw_searches({"a": {**SEARCH, "trials": trials}}).axes[2]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.0", "0.1", "0.2"]


def test_each_search_begins_a_row():
    with style.page_style():
        figure = search.draw_searches({"a": SEARCH, "b": SEARCH})
    rows = [axis.get_subplotspec().rowspan.start for axis in figure.axes]
    assert rows == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


def test_searches_are_read_and_one_that_has_not_ended_is_left_out(tmp_path, caplog):
    base, folder = Key(str(tmp_path)), tmp_path / "studies" / "a"
    assert search.read_searches(base, ["a"]) == {}
    assert "the search a is not in the report" in caplog.text
    folder.mkdir(parents=True)
    (folder / "search.json").write_text(json.dumps(SEARCH))
    found = search.read_searches(base, ["a"], ["b", "a"])
    assert found == {"a": SEARCH}
    before = search.search_fingerprints(found)
    assert list(before) == ["studies/a"]
    assert search.search_fingerprints({"a": {**SEARCH, "model": "inclusive"}}) != before
    (folder / "search.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"search\.json is no JSON .*run tune\.py again"):
        search.read_searches(base, ["a"])
