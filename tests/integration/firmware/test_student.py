"""The quantised network by itself, and hls4ml's simulation of it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from support.evaluation_data import HIGH, make_scaling
from toposieve.config import FirmwareConfig
from toposieve.firmware import hls
from toposieve.firmware.port import Port, random_features
from toposieve.firmware.student import build_student, logits_of, use_one_thread, widen


def without_wraps(student: keras.Model, values: np.ndarray, fraction_bits: int) -> np.ndarray:
    """What the student would say if values inside had any number of bits before the point."""
    values = np.clip(values, -1, 1 - 2.0**-fraction_bits)
    for layer in student.layers[2:]:
        step = np.exp2(-np.asarray(layer.iq.quantizer.f))
        values = np.floor(values / step + 0.5) * step @ np.asarray(layer.qkernel) + np.asarray(layer.qbias)
        values = np.maximum(values, 0) if layer.activation is keras.activations.relu else values
    return values


def test_no_value_inside_wraps_whatever_comes_in() -> None:
    use_one_thread()
    inputs = keras.Input((HIGH,))
    hidden = keras.layers.Dense(5, activation="relu", name="first")(inputs)
    hidden = keras.layers.Dense(4, activation="relu", name="second")(hidden)
    network = keras.Model(inputs, keras.layers.Dense(3, name="last")(hidden))
    random = np.random.default_rng(0)
    network.set_weights([random.normal(0, 2, weights.shape) for weights in network.get_weights()])
    scaling = make_scaling()
    port = Port.of(scaling, 8)
    student = build_student(network, port, scaling, FirmwareConfig())
    values = port.values(port.rounded(random_features(port, 300, seed=1)))
    expected = without_wraps(student, values, 8)
    assert not np.array_equal(logits_of(student, values), expected)
    widen(student, port)
    np.testing.assert_array_equal(logits_of(student, values), expected)


def test_before_the_training_the_student_says_nearly_what_the_network_says() -> None:
    use_one_thread()
    inputs = keras.Input((HIGH,))
    network = keras.Model(inputs, keras.layers.Dense(3, name="last")(inputs))
    random = np.random.default_rng(0)
    network.set_weights([random.normal(0, 0.5, weights.shape) for weights in network.get_weights()])
    scaling = make_scaling()
    port = Port.of(scaling, 10)
    student = build_student(network, port, scaling, FirmwareConfig())
    widen(student, port)
    scaled = random.uniform(0, 1, (100, HIGH))
    physical = scaled * scaling.high_level_scale + scaling.high_level_offset
    told = logits_of(student, port.values(port.rounded(physical)))
    np.testing.assert_allclose(told, logits_of(network, scaled), rtol=0, atol=0.1)


def test_hls4ml_says_the_same_unless_a_weight_is_another(tmp_path: Path) -> None:
    use_one_thread()
    inputs = keras.Input((HIGH,))
    hidden = keras.layers.Dense(4, activation="relu", name="hidden")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(3, name="last")(hidden))
    random = np.random.default_rng(0)
    network.set_weights([random.normal(0, 0.5, weights.shape) for weights in network.get_weights()])
    scaling = make_scaling()
    port = Port.of(scaling, 8)
    student = build_student(network, port, scaling, FirmwareConfig())
    words = port.saturated(port.rounded(random_features(port, 300, seed=1)))
    logits_of(student, port.values(words))  # HGQ2 chooses formats of weights
    widen(student, port)
    found = hls.simulate(student, port, {"random": words}, tmp_path)["random"]
    np.testing.assert_array_equal(found, logits_of(student, port.values(words)))
    kernel = student.layers[-1].kernel
    step = 2.0 ** -float(np.max(student.layers[-1].kq.quantizer.f))
    changed = np.asarray(kernel)
    changed[0, 0] += step
    kernel.assign(changed)
    differing = found != logits_of(student, port.values(words))
    assert differing[:, 0].any()
    assert not differing[:, 1:].any()
