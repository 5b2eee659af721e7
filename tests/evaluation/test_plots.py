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
    measured = performance.measure(labels, np.ones(90), scores, CONFIG)
    return measured, performance.summarise_models(measured, labels, np.ones(90), scores)


def as_metrics(models):
    return {"classes": list(schema.SAMPLES), "models": models}


def test_plots_do_not_look_as_the_user_has_set_up_matplotlib():
    with mpl.rc_context({"text.usetex": True, "axes.grid": True}), style.page_style():
        assert not mpl.rcParams["text.usetex"]
        assert not mpl.rcParams["axes.grid"]


def test_roc_has_a_log_axis_and_a_curve_for_each_model_and_class(measured):
    with style.page_style():
        figure = plots.roc_curves(measured[0])
    assert [axis.get_title() for axis in figure.axes] == [
        f"{name} against the rest" for name in style.CLASS_LABELS.values()
    ]
    for label, axis in enumerate(figure.axes):
        assert axis.get_yscale() == "log"
        positive = measured[0].nominal.false_positive_rate[measured[0].nominal.false_positive_rate > 0]
        assert axis.get_ylim() == (pytest.approx(0.6 * min(positive.min(), 0.1)), 1)
        curves = {line.get_label(): line.get_ydata() for line in axis.lines if len(line.get_xdata()) > 10}
        assert set(curves) == {"hlf", "inclusive"}
        np.testing.assert_array_equal(np.nan_to_num(curves["inclusive"]), measured[0].roc("inclusive", label)[0])


def test_roc_markers_are_the_working_points(measured):
    with style.page_style():
        figure = plots.roc_curves(measured[0])
    markers = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(CONFIG.working_points)]
    assert [tuple(line.get_xdata()) for line in markers] == [CONFIG.working_points] * 2
    expected = [point["false_positive_rate"] for point in measured[1]["hlf"]["working_points"]["qcd"]]
    np.testing.assert_array_equal(np.nan_to_num(markers[0].get_ydata()), expected)


def test_auc_summary_shows_values_and_the_published_ones(measured):
    with style.page_style():
        figure = plots.auc_summary(as_metrics(measured[1]))
    ttbar = figure.axes[1]
    shown = {float(line.get_xdata()[0]) for line in ttbar.lines if len(line.get_xdata()) == 1}
    assert {values["auc"]["ttbar"]["value"] for values in measured[1].values()} <= shown
    assert {0.9855, 0.9969} <= shown
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
    measured = performance.measure(labels, np.ones(3), scores, CONFIG)
    models = performance.summarise_models(measured, labels, np.ones(3), scores)
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
