import matplotlib as mpl
import numpy as np
import pytest

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
    events = performance.Sample(labels, np.ones(90), scores)
    measured = performance.measure(events, events, CONFIG, dict.fromkeys(schema.SAMPLES, (1000.0, 50.0)))
    return measured, performance.summarise_models(measured, events)


def as_metrics(models):
    return {"classes": list(schema.SAMPLES), "models": models}


def test_plots_do_not_look_as_the_user_has_set_up_matplotlib():
    with mpl.rc_context({"text.usetex": True, "axes.grid": True}), style.page_style():
        assert not mpl.rcParams["text.usetex"]
        assert not mpl.rcParams["axes.grid"]


PAIRS = [(wanted, other) for wanted in range(3) for other in range(3) if other != wanted]


def test_roc_has_a_log_axis_and_a_curve_for_each_model_and_pair_of_classes(measured):
    with style.page_style():
        figure = plots.roc_curves(measured[0])
    names = list(style.CLASS_LABELS.values())
    assert [axis.get_title() for axis in figure.axes] == [
        f"{names[own]} against {names[other]}" for own, other in PAIRS
    ]
    for pair, axis in zip(PAIRS, figure.axes, strict=True):
        assert axis.get_yscale() == "log"
        rates = measured[0].nominal.curve[..., :-1]
        assert axis.get_ylim() == (pytest.approx(0.6 * min(rates[rates > 0].min(), 0.1)), 1)
        curves = {line.get_label(): line.get_ydata() for line in axis.lines if len(line.get_xdata()) > 10}
        assert set(curves) == {"hlf", "inclusive"}
        np.testing.assert_array_equal(np.nan_to_num(curves["inclusive"]), measured[0].roc("inclusive", *pair)[0])


def test_roc_bands_hold_the_middle_68_per_cent(measured):
    with style.page_style():
        figure = plots.roc_curves(measured[0])
    (band, _), middle = figure.axes[0].collections, 100
    edges = [y for x, y in band.get_paths()[0].vertices if x == performance.ROC_GRID[middle]]
    resampled = measured[0].roc("hlf", *PAIRS[0])[1][:, middle]
    assert (min(edges), max(edges)) == pytest.approx(tuple(np.quantile(resampled, [0.16, 0.84])))


def test_roc_markers_are_the_working_points(measured):
    with style.page_style():
        figure = plots.roc_curves(measured[0])
    markers = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(CONFIG.working_points)]
    points = measured[1]["hlf"]["working_points"]["qcd"]
    assert list(markers[0].get_xdata()) == [point["true_positive_rate"] for point in points]
    expected = [point["background"]["ttbar"]["false_positive_rate"] for point in points]
    np.testing.assert_array_equal(np.nan_to_num(markers[0].get_ydata()), expected)


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
    events = performance.Sample(labels, np.ones(3), scores)
    measured = performance.measure(events, events, CONFIG)
    models = performance.summarise_models(measured, events)
    with style.page_style():
        style.save(plots.auc_summary(as_metrics(models)), tmp_path / "auc.png")
        style.save(plots.roc_curves(measured), tmp_path / "roc.png")
        style.save(plots.learning_curves({"hlf": {"loss": [1.0], "validation_loss": [1.0]}}), tmp_path / "learning.png")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_figure_gives_the_same_bytes_twice(tmp_path, measured):
    for name in ("first.png", "second.png"):
        with style.page_style():
            style.save(plots.roc_curves(measured[0]), tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")


def test_models_are_told_apart_by_line_and_marker_and_classes_by_colour():
    assert len(style.MODEL_STYLES) >= len(ARCHITECTURES)
    for key in ("color", "linestyle", "marker"):
        assert len({str(each[key]) for each in style.MODEL_STYLES}) == len(style.MODEL_STYLES)
    assert set(style.CLASS_COLOURS) == set(style.CLASS_LABELS) == set(schema.SAMPLES)
