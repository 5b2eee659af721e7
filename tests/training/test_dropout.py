import keras
import numpy as np
import pytest
import tensorflow as tf

from toposieve.training.dropout import DropoutKeys, EventDropout, dropout_keys

BATCH = 64
ALL = np.arange(BATCH)


def drop(
    rows: np.ndarray,
    *,
    seed: int = 1,
    step: int = 0,
    stream: int = 0,
    shape: tuple[int, ...] = (50,),
) -> np.ndarray:
    """What becomes of ones, (rows, …)."""
    with dropout_keys(DropoutKeys(seed, tf.constant(step, tf.int64), tf.constant(rows, tf.int32))):
        return EventDropout(0.2, stream)(tf.ones((len(rows), *shape)), training=True).numpy()


@pytest.mark.parametrize("shape", [(50,), (30, 19)], ids=str)
def test_inputs_are_dropped_at_the_rate_and_the_others_scaled(shape: tuple[int, ...]) -> None:
    result = drop(ALL, shape=shape)
    assert result.shape == (BATCH, *shape)
    assert set(np.unique(result)) == {np.float32(0.0), np.float32(1.25)}
    assert np.mean(result == 0) == pytest.approx(0.2, abs=0.03)


def test_the_choice_belongs_to_the_row_not_to_the_worker() -> None:
    whole = drop(ALL)
    np.testing.assert_array_equal(np.concatenate([drop(ALL[:16]), drop(ALL[16:])]), whole)
    np.testing.assert_array_equal(drop(ALL[::-1]), whole[::-1])


def test_the_choice_is_the_same_again_and_under_xla() -> None:
    compiled = tf.function(lambda: drop_tensor(), jit_compile=True)
    np.testing.assert_array_equal(drop(ALL), drop(ALL))
    np.testing.assert_array_equal(compiled().numpy(), drop(ALL))


def drop_tensor() -> tf.Tensor:
    with dropout_keys(DropoutKeys(1, tf.constant(0, tf.int64), tf.constant(ALL, tf.int32))):
        return EventDropout(0.2, 0)(tf.ones((BATCH, 50)), training=True)


@pytest.mark.parametrize("change", [{"seed": 2}, {"seed": 2**70}, {"step": 1}, {"step": 2**31 - 1}, {"stream": 1}])
def test_the_choice_changes_with_seed_step_and_layer(change: dict[str, int]) -> None:
    different = np.mean((drop(ALL) == 0) != (drop(ALL, **change) == 0))
    assert different == pytest.approx(2 * 0.2 * 0.8, abs=0.05)


@pytest.mark.parametrize("shape", [(50,), (30, 19)], ids=str)
def test_rows_are_dropped_independently(shape: tuple[int, ...]) -> None:
    result = drop(ALL, shape=shape) == 0
    assert len({row.tobytes() for row in result}) == BATCH


def test_particles_of_a_row_are_dropped_independently() -> None:
    assert len({particle.tobytes() for particle in drop(ALL[:1], shape=(10, 19))[0] == 0}) == 10


def test_neighbours_in_step_and_row_have_nothing_in_common() -> None:
    """A key that was their sum would drop the same in row 1 of step 0 as in row 0 of step 1."""
    assert not np.array_equal(drop(ALL[1:2]), drop(ALL[:1], step=1))


def test_inference_changes_nothing() -> None:
    values = tf.random.stateless_normal((4, 50), (1, 2))
    np.testing.assert_array_equal(EventDropout(0.2, 0)(values, training=False), values)


def test_training_without_keys_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="dropout_keys"):
        EventDropout(0.2, 0)(tf.ones((4, 50)), training=True)


def test_the_layer_is_saved_and_loaded() -> None:
    layer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(EventDropout(0.3, 2)))
    assert (layer.rate, layer.stream) == (0.3, 2)
