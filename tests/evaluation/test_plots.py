import copy

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.markers import CARETUPBASE

from toposieve import schema
from toposieve.config import EvaluationConfig
from toposieve.evaluation import performance, plots, style
from toposieve.models import ARCHITECTURES

CONFIG = EvaluationConfig(bootstrap_samples=10)


@pytest.fixture(scope="module")
def measured():
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 30)
    scores = {name: random.dirichlet(np.ones(3), 90) + np.eye(3)[labels] * 0.3 for name in ("hlf", "inclusive")}
    events = performance.Sample(labels, np.ones(90), scores, schema.SAMPLES)
    measured = performance.measure(events, events, CONFIG, dict.fromkeys(schema.SAMPLES, (1000.0, 50.0)))
    return measured, performance.summarise_models(measured, events)


def as_metrics(models):
    return {"classes": list(schema.SAMPLES), "models": {label: {"model": label} | of for label, of in models.items()}}


def rejection_figure(measured, **changed):
    with style.page_style():
        return plots.rejection_curves(as_metrics(measured[1] | changed), measured[0])


def panels_of(figure):
    """Of each pair of classes: the panel with the curves, and that of the ratio below."""
    return [
        (figure.axes[4 * (place // 2) + place % 2], figure.axes[4 * (place // 2) + place % 2 + 2]) for place in range(6)
    ]


def test_plots_do_not_look_as_the_user_has_set_up_matplotlib():
    with mpl.rc_context({"text.usetex": True, "axes.grid": True}), style.page_style():
        assert not mpl.rcParams["text.usetex"]
        assert not mpl.rcParams["axes.grid"]


PAIRS = [(wanted, other) for wanted in range(3) for other in range(3) if other != wanted]


def curves_of(axis):
    return [line.get_ydata() for line in axis.lines if len(line.get_xdata()) == len(performance.ROC_GRID)]


def test_rejection_has_a_log_axis_and_a_curve_for_each_model_and_pair_of_classes(measured):
    figure = rejection_figure(measured)
    names = list(style.CLASS_LABELS.values())
    rates = measured[0].nominal.curve[..., :-1]
    for pair, (axis, _) in zip(PAIRS, panels_of(figure), strict=True):
        assert [text.get_text() for text in axis.texts] == [f"{names[pair[0]]} against {names[pair[1]]}"]
        assert axis.get_yscale() == "log"
        assert axis.get_ylim() == (1, pytest.approx(3 / min(rates[rates > 0].min(), 0.1)))
        for model, curve in zip(("hlf", "inclusive"), curves_of(axis), strict=True):
            rate = measured[0].roc(model, *pair)[0]
            np.testing.assert_allclose(curve[rate > 0], 1 / rate[rate > 0])
            assert np.isnan(curve[rate == 0]).all()


def test_rejection_is_divided_by_that_of_the_first_model_below(measured):
    for pair, (_, below) in zip(PAIRS, panels_of(rejection_figure(measured)), strict=True):
        first, second = (measured[0].roc(model, *pair)[0] for model in ("hlf", "inclusive"))
        both = (first > 0) & (second > 0)
        ones, ratio = curves_of(below)
        np.testing.assert_allclose(ones[first > 0], 1)
        np.testing.assert_allclose(ratio[both], first[both] / second[both])
        assert below.get_yscale() == "log"


def test_rejection_bands_hold_the_middle_68_per_cent(measured):
    band, *_ = rejection_figure(measured).axes[0].collections
    middle = 100
    edges = [y for x, y in band.get_paths()[0].vertices if x == performance.ROC_GRID[middle]]
    resampled = measured[0].roc("hlf", *PAIRS[0])[1][:, middle]
    assert (min(edges), max(edges)) == pytest.approx(tuple(1 / np.quantile(resampled, [0.84, 0.16])))


def test_many_models_have_no_bands(measured, monkeypatch):
    def bands():
        return [
            each
            for each in rejection_figure(measured).axes[0].collections
            if isinstance(each, FillBetweenPolyCollection)
        ]

    assert len(bands()) == 2
    monkeypatch.setattr(plots, "MOST_BANDS", 1)
    assert bands() == []


def test_rejection_markers_are_the_working_points_with_their_intervals(measured):
    bars = rejection_figure(measured).axes[0].containers[: len(CONFIG.working_points)]
    for bar, point in zip(bars, measured[1]["hlf"]["working_points"]["qcd"], strict=True):
        background = point["background"]["ttbar"]
        assert bar.lines[0].get_xdata() == pytest.approx([point["true_positive_rate"]], abs=1e-3)
        assert bar.lines[0].get_ydata() == [1 / background["false_positive_rate"]]
        ends = bar.lines[2][0].get_segments()[0][:, 1]
        np.testing.assert_allclose(ends, 1 / np.array(background["interval"])[::-1])


def test_an_arrow_points_up_from_the_limit_where_nothing_passes(measured):
    changed = copy.deepcopy(measured[1]["hlf"])
    changed["working_points"]["qcd"][0]["background"]["ttbar"] |= {"rejection": None, "upper_limit_95": 0.04}
    bar = rejection_figure(measured, hlf=changed).axes[0].containers[0]
    assert bar.lines[0].get_ydata() == [25]
    (arrow,) = bar.lines[1]
    assert arrow.get_marker() == CARETUPBASE
    assert arrow.get_ydata() > 25
    plain = rejection_figure(measured).axes[0].containers[0]
    assert plain.lines[1] == ()


def test_label_says_who_and_under_which_conditions_what_is_unknown_left_out(measured):
    def titles(**sample):
        figure = rejection_figure(measured)
        with style.page_style():
            style.experiment_label(figure, sample)
        assert not any(axis.get_title("left") for axis in figure.axes[1:])
        return figure.axes[0].get_title("left"), figure.axes[1].get_title("right")

    who = r"$\bf{Toposieve}$ $\it{Simulation}$"
    assert titles(energy=13.0, pileup=20.2) == (who, r"$\langle$PU$\rangle$ = 20, √s = 13 TeV")
    assert titles(energy=13.6, pileup=None) == (who, "√s = 13.6 TeV")
    assert titles(energy=None, pileup=None) == (who, "")


def test_rate_curves_add_up_all_processes_and_show_the_budgets(measured):
    with style.page_style():
        figure = plots.rate_curves(measured[0])
    curve, *_ = figure.axes[1].lines
    np.testing.assert_allclose(curve.get_ydata(), 20 * measured[0].nominal.curve[0, 1, :, :3].sum(axis=1))
    assert [line.get_ydata()[0] for line in figure.axes[1].lines[-2:]] == list(CONFIG.rate_budgets)


def test_auc_summary_shows_values_and_the_published_ones(measured):
    with style.page_style():
        figure = plots.auc_summary(as_metrics(measured[1]))
    ttbar = figure.axes[1]
    shown = {float(line.get_xdata()[0]) for line in ttbar.lines if len(line.get_xdata()) == 1}
    assert {values["auc"]["ttbar"]["value"] for values in measured[1].values()} <= shown
    assert {0.9855, 0.9972} <= shown
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["hlf", "inclusive"]


@pytest.mark.parametrize("without", [[0, 0, 0], [-3.0, 1.0, 0.0]])
def test_confusion_matrices_show_weighted_shares_and_events(without):
    confusion = {"weights": [[3.0, 1.0, 0.0], [0.0, 2.0, 0.0], without], "events": [[6, 2, 0], [0, 9, 0], [0, 0, 0]]}
    with style.page_style():
        figure = plots.confusion_matrices(as_metrics({"hlf": {"confusion": confusion}}))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:4] == ["75.0 %", "6", "25.0 %", "2"]
    assert texts[-2:] == ["n/a", "0"]  # a class without events, or whose weights cancel


def test_learning_curves_start_at_the_first_epoch():
    history = {"loss": [1.0, 0.5], "validation_loss": [1.1, 0.7], "accuracy": [0.3, 0.6]}
    with style.page_style():
        figure = plots.learning_curves({"hlf": history})
    training, validation = figure.axes[0].lines
    np.testing.assert_array_equal(training.get_xydata(), [[1, 1.0], [2, 0.5]])
    np.testing.assert_array_equal(validation.get_ydata(), history["validation_loss"])


def test_many_models_fill_rows_of_three():
    histories = {f"model-{place}": {"loss": [1.0], "validation_loss": [1.0]} for place in range(4)}
    with style.page_style():
        figure = plots.learning_curves(histories)
    assert [axis.axison for axis in figure.axes] == [True] * 4 + [False] * 2
    assert len({axis.lines[0].get_color() for axis in figure.axes[:4]}) == 4


def test_undefined_metrics_can_be_drawn(tmp_path):
    labels = np.array([0, 1, 0])
    scores = {"hlf": np.full((3, 3), 1 / 3)}
    events = performance.Sample(labels, np.ones(3), scores, schema.SAMPLES)
    measured = performance.measure(events, events, CONFIG)
    models = performance.summarise_models(measured, events)
    with style.page_style():
        style.save(plots.auc_summary(as_metrics(models)), tmp_path / "auc.png")
        style.save(plots.rejection_curves(as_metrics(models), measured), tmp_path / "roc.png")
        style.save(plots.learning_curves({"hlf": {"loss": [1.0], "validation_loss": [1.0]}}), tmp_path / "learning.png")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_figure_gives_the_same_bytes_twice(tmp_path, measured):
    for name in ("first.png", "second.png"):
        with style.page_style():
            style.save(rejection_figure(measured), tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")


def test_models_are_told_apart_by_line_and_marker_and_classes_by_colour():
    styles = [{key: str(value) for key, value in style.model_style(place).items()} for place in range(100)]
    first = styles[: len(ARCHITECTURES)]
    for key in ("color", "linestyle", "marker"):
        assert len({each[key] for each in first}) == len(ARCHITECTURES)
    assert len({tuple(each.values()) for each in styles}) == len(styles)
    assert set(style.CLASS_COLOURS) == set(style.CLASS_LABELS) == set(schema.SAMPLES)


def test_bars_of_models_stand_side_by_side_within_their_slice():
    of_slice = {key: [value, None] for key, value in (("share", 0.9), ("low", 0.8), ("high", 0.95))}
    stable = {"stability": {sample: {"nJets": {sample: of_slice}} for sample in schema.SAMPLES}}
    metrics = as_metrics(dict.fromkeys(map(str, range(10)), stable)) | {"slices": {"nJets": ["0", "1"]}}
    with style.page_style():
        figure = plots.stability(metrics)
    places = [bar.lines[0].get_xdata()[0] for bar in figure.axes[0].containers]
    np.testing.assert_allclose(places, np.linspace(-0.36, 0.36, 10))
    assert figure.axes[0].get_xlim() == (-0.5, 1.5)
