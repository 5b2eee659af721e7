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

SCALING = make_scaling()


def make_student(*units: int, spread: float, fraction_bits: int) -> tuple[keras.Model, keras.Model, Port]:
    """A network of random weights, its student before any training, and what that takes."""
    use_one_thread()
    hidden = [keras.layers.Dense(each, activation="relu", name=f"hidden_{each}") for each in units]
    network = keras.Sequential([keras.Input((HIGH,)), *hidden, keras.layers.Dense(3, name="last")])
    random = np.random.default_rng(0)
    network.set_weights([random.normal(0, spread, weights.shape) for weights in network.get_weights()])
    port = Port.of(SCALING, fraction_bits)
    return network, build_student(network, port, SCALING, FirmwareConfig()), port


def without_wraps(student: keras.Model, values: np.ndarray, fraction_bits: int) -> np.ndarray:
    """What the student would say if values inside had any number of bits before the point."""
    values = np.clip(values, -1, 1 - 2.0**-fraction_bits)
    for layer in student.layers[2:]:
        step = np.exp2(-np.asarray(layer.iq.quantizer.f))
        values = np.floor(values / step + 0.5) * step @ np.asarray(layer.qkernel) + np.asarray(layer.qbias)
        values = np.maximum(values, 0) if layer.activation is keras.activations.relu else values
    return values


def test_no_value_inside_wraps_whatever_comes_in() -> None:
    _, student, port = make_student(5, 4, spread=2, fraction_bits=8)
    values = port.values(port.rounded(random_features(port, 300, seed=1)))
    expected = without_wraps(student, values, 8)
    assert not np.array_equal(logits_of(student, values), expected)
    widen(student, port)
    np.testing.assert_array_equal(logits_of(student, values), expected)


def test_before_the_training_the_student_says_nearly_what_the_network_says() -> None:
    network, student, port = make_student(spread=0.5, fraction_bits=10)
    widen(student, port)
    scaled = np.random.default_rng(1).uniform(0, 1, (100, HIGH))
    physical = scaled * SCALING.high_level_scale + SCALING.high_level_offset
    told = logits_of(student, port.values(port.rounded(physical)))
    np.testing.assert_allclose(told, logits_of(network, scaled), rtol=0, atol=0.1)


def test_hls4ml_says_the_same_unless_a_weight_is_another(tmp_path: Path) -> None:
    _, student, port = make_student(4, spread=0.5, fraction_bits=8)
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
