from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from support import gang_steps
from support.gang_steps import PRESENT, RATE, Run
from support.gangs import finish, gang
from toposieve.config import TrainingConfig
from toposieve.io.store import Key
from toposieve.training.architectures import build_model
from toposieve.training.architectures.parts import logits_of
from toposieve.training.checkpoints import load_newest_checkpoint, save_checkpoint
from toposieve.training.dropout import DropoutKeys, dropout_keys
from toposieve.training.records import Batch
from toposieve.training.steps import SUM_NAMES, Steps, build_steps, sum_over_workers

ROWS = 8
RNG = np.random.default_rng(3)
HIGH_LEVEL = RNG.normal(size=(ROWS, 14)).astype(np.float32)
LABELS = RNG.integers(0, 3, ROWS)
NOTHING = np.zeros(len(SUM_NAMES))
FACTORS = np.array([1.0, 2.0, 5.0])
WEIGHTS = RNG.uniform(0.5, 2.0, ROWS).astype(np.float32)


def batch_of(weights: np.ndarray = WEIGHTS, present: np.ndarray | None = None) -> Batch:
    return {
        "high_level": tf.constant(HIGH_LEVEL),
        "label": tf.constant(LABELS, tf.int64),
        "weight": tf.constant(weights, tf.float32),
        "present": tf.constant(np.ones(ROWS) if present is None else present, tf.float32),
        "row": tf.range(ROWS),
    }


def build(event_weights: str = "absolute", precision: str = "float32") -> tuple[keras.Model, Steps]:
    model = build_model(TrainingConfig(model="hlf", precision=precision), 3)
    optimizer = keras.optimizers.SGD(1.0)  # plain gradient descent: the update is the gradient
    optimizer.build(model.trainable_variables)
    spec = {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in batch_of().items()}
    strategy = tf.distribute.get_strategy()
    options = {"seed": 1, "event_weights": event_weights, "signed_factors": FACTORS}
    return model, build_steps(model, optimizer, strategy, spec, **options)


def weighted_loss(model: keras.Model, weights: np.ndarray) -> float:
    probabilities = np.asarray(model({"high_level": HIGH_LEVEL}))[np.arange(ROWS), LABELS]
    return float(np.sum(-weights * np.log(probabilities)) / weights.sum())


def test_validation_sums_are_weighted() -> None:
    model, steps = build()
    sums = dict(zip(SUM_NAMES, steps.validate([batch_of()], NOTHING), strict=True))
    predicted = np.argmax(np.asarray(model({"high_level": HIGH_LEVEL})), axis=1)
    assert sums["events"] == ROWS
    assert sums["weight"] == pytest.approx(WEIGHTS.sum())
    assert sums["weighted_loss"] / sums["weight"] == pytest.approx(weighted_loss(model, WEIGHTS), rel=1e-5)
    assert sums["weighted_hits"] == pytest.approx(WEIGHTS[predicted == LABELS].sum())


@pytest.mark.parametrize(
    ("event_weights", "sign"),
    [("absolute", np.abs), ("signed", lambda weights: weights * FACTORS[LABELS]), ("none", np.ones_like)],
)
def test_negative_weights_count_as_the_policy_says(event_weights: str, sign: Callable) -> None:
    weights = WEIGHTS * np.where(np.arange(ROWS) < 3, -1, 1)
    model, steps = build(event_weights)
    sums = dict(zip(SUM_NAMES, steps.validate([batch_of(weights)], NOTHING), strict=True))
    counted = sign(weights)
    assert sums["weight"] == pytest.approx(counted.sum())
    assert sums["weighted_loss"] == pytest.approx(weighted_loss(model, counted) * counted.sum(), rel=1e-5)


def test_the_gradient_is_that_of_the_weighted_loss_per_event() -> None:
    model, steps = build()
    bias = model.get_layer("logits").bias
    before = np.array(bias)
    step = 1e-3
    slopes = []
    for place in range(3):
        values = []
        for sign in (1, -1):
            bias.assign(before + sign * step * np.eye(3, dtype=np.float32)[place])
            values.append(weighted_loss(model, WEIGHTS) * WEIGHTS.sum() / ROWS)
        slopes.append((values[0] - values[1]) / (2 * step))
    bias.assign(before)
    steps.train([batch_of()], 0, NOTHING)
    np.testing.assert_allclose(before - np.array(bias), slopes, atol=1e-3)


def test_events_that_are_not_there_change_nothing() -> None:
    half = np.where(np.arange(ROWS) < 5, WEIGHTS, 0.0)
    partial, steps = build()
    sums = steps.train([batch_of(half, np.arange(ROWS) < 5)], 0, NOTHING)
    scaled, other_steps = build()
    other_steps.train([batch_of(half * ROWS / 5)], 0, NOTHING)  # as many events as rows, with the same weight per event
    assert sums[SUM_NAMES.index("events")] == 5
    for one, two in zip(partial.get_weights(), scaled.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_a_batch_without_weight_changes_nothing() -> None:
    model, steps = build()
    before = model.get_weights()
    steps.train([batch_of(np.zeros(ROWS))], 0, NOTHING)
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


def test_steps_lower_the_loss() -> None:
    model, steps = build()
    first = weighted_loss(model, WEIGHTS)
    steps.train([batch_of()] * 20, 0, NOTHING)
    assert weighted_loss(model, WEIGHTS) < first / 2


def test_layers_may_compute_in_less_than_weights_and_loss() -> None:
    model, steps = build(precision="mixed_bfloat16")
    full, full_steps = build()
    assert model.get_layer("logits").compute_dtype == "bfloat16"
    sums, full_sums = (each.train([batch_of()] * 5, 0, NOTHING) for each in (steps, full_steps))
    assert sums[0] == pytest.approx(full_sums[0], rel=0.02)
    assert sums[0] != full_sums[0]
    assert all(weights.dtype == np.float32 for weights in [*model.get_weights(), *full.get_weights()])


def test_one_worker_sums_alone() -> None:
    assert sum_over_workers(tf.distribute.get_strategy(), np.array([41.5, 2.0])).tolist() == [41.5, 2.0]


def test_steps_in_one_call_or_in_several_give_the_same_to_the_bit() -> None:
    batches = [batch_of(WEIGHTS * factor) for factor in (1.0, 0.5, 3.0, 2.0, 0.1)]
    results = []
    for calls in ([5], [2, 1, 2], [1] * 5):
        model, steps = build()
        sums, first = NOTHING, 0
        for count in calls:
            sums = steps.train(batches[first : first + count], first, sums)
            first += count
        results.append([*model.get_weights(), sums, steps.validate(batches[:3], NOTHING)])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.fixture(scope="module")
def gang_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two workers have made of every model: one start of a gang for all."""
    folder = tmp_path_factory.mktemp("gang")
    with gang([str(folder)], workers=2, script=Path(gang_steps.__file__)) as workers:
        for code, output in [finish(worker) for worker in workers]:
            assert code == 0, output
    return folder


@pytest.mark.parametrize("name", gang_steps.MODELS)
def test_two_workers_give_the_weights_of_one_and_so_does_one_that_resumes(
    name: str, gang_folder: Path, tmp_path: Path
) -> None:
    """By plain gradient descent: a division by the events of one worker, not of all, would show."""
    run = Run(name, tf.distribute.get_strategy())
    begin = run.state.checkpoint()
    sums, weights = run.train(), run.state.weights
    for worker in range(2):
        with np.load(gang_folder / f"{name}-{worker}.npz") as together:
            np.testing.assert_allclose(together["sums"], sums, rtol=1e-5)
            for number, one in enumerate(weights):
                np.testing.assert_allclose(together[f"arr_{number}"], one, rtol=1e-3, atol=1e-3)
    run.state.restore(begin)
    run.train(stop=1)
    save_checkpoint(Key(str(tmp_path)), run.state.checkpoint())
    run.state.restore(begin)
    found = load_newest_checkpoint(Key(str(tmp_path)), run.state.layers)
    assert found is not None
    run.state.restore(found)
    run.train(first=1)
    for one, two in zip(weights, run.state.weights, strict=True):
        np.testing.assert_array_equal(two, one)


def test_the_dropout_of_a_step_is_that_of_seed_step_and_row() -> None:
    run = Run("inclusive", tf.distribute.get_strategy(), seed=7)
    model, begin = logits_of(run.state.model), run.state.checkpoint()
    for step in (0, 1):
        batch = run.batches[step]
        keys = DropoutKeys(7, tf.constant(step, tf.int64), tf.constant(batch["row"]))
        with dropout_keys(keys), tf.GradientTape() as tape:
            scores = model({name: batch[name] for name in model.input}, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], scores)
            loss = tf.reduce_sum(batch["weight"] * losses) / PRESENT[step]
        slopes = tape.gradient(loss, model.trainable_variables)
        run.train(step, step + 1)
        for was, now, slope in zip(begin.model, run.state.weights, slopes, strict=True):
            np.testing.assert_allclose(now, was - RATE * slope, rtol=1e-4, atol=1e-5)
        run.state.restore(begin)


def test_a_step_sums_over_workers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def note(_: object, vector: tf.Tensor) -> tf.Tensor:
        shapes.append(vector.shape)
        return vector

    monkeypatch.setattr("toposieve.training.steps._over_workers", note)
    model, steps = build()
    steps.train([batch_of()], 0, NOTHING)
    assert shapes == [(len(SUM_NAMES) + model.count_params(),)]


@pytest.mark.parametrize("name", ["hlf", "inclusive"])
def test_micro_batches_change_nothing(name: str) -> None:
    """Neither dropout, which must know a row's place in the whole batch, nor the row that 8 lack to slices of 3."""
    whole, sliced = (Run(name, tf.distribute.get_strategy(), micro_batch_size=most) for most in (None, 3))
    np.testing.assert_allclose(sliced.train(), whole.train(), rtol=1e-5)
    for one, two in zip(whole.state.weights, sliced.state.weights, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)
