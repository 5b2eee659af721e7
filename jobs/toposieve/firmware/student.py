"""The quantised student of a network: HGQ2 learns how many bits each weight and each value needs.

It is told the network's probabilities, not the true classes: of those few events it would learn the noise. One thread
and seeds make it the same again, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from hgq.config import LayerConfigScope, QuantizerConfigScope
from hgq.layers import QDense
from hgq.quantizer import Quantizer, QuantizerConfig
from hgq.utils.sugar import FreeEBOPs
from numpy.typing import NDArray

from toposieve.config import FirmwareConfig
from toposieve.firmware.port import FloatArray, Port
from toposieve.preprocessing import Scaling

PREDICTED_EVENTS = 8192
"""At a time."""


@dataclass(frozen=True)
class Lesson:
    """Events of a split."""

    values: FloatArray
    """(events, 14), of the port."""
    shares: NDArray[np.float32]
    """(events, classes), the network's probabilities."""
    weights: NDArray[np.float64]
    """(events,), what each counts."""


@dataclass(frozen=True)
class Learnt:
    """How the training went."""

    best_epoch: int
    """From 1 on."""
    validation_loss: float
    bit_operations: int
    """Products of one bit by one bit that an event takes, after the last epoch."""


def use_one_thread() -> None:
    """Sums of floats depend on who adds first; to be called before anything else of TensorFlow."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def dense_layers(network: keras.Model) -> list[keras.layers.Dense]:
    """Those of a network, in order."""
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]


def build_student(network: keras.Model, port: Port, scaling: Scaling, config: FirmwareConfig) -> keras.Model:
    """A quantised network that takes the port's values, with the weights of a network of scaled features."""
    keras.utils.set_random_seed(config.seed)
    layers = dense_layers(network)
    with (
        QuantizerConfigScope(place="all", q_type="kbi", overflow_mode="SAT_SYM", round_mode="RND"),
        QuantizerConfigScope(place="datalane", q_type="kif", overflow_mode="WRAP", round_mode="RND"),
        LayerConfigScope(enable_ebops=True, beta0=config.bit_cost),
    ):
        values = keras.Input((len(port.exponents),), name="values")
        hidden = _saturation(port)(values)
        for layer in layers:
            hidden = QDense(layer.units, activation=layer.activation, name=layer.name)(hidden)
    student = keras.Model(values, hidden)
    for number, (quantised, layer) in enumerate(zip(_quantised(student), layers, strict=True)):
        kernel, bias = layer.get_weights()
        first = port.folded(kernel, bias, scaling) if number == 0 else (kernel, bias)
        for variable, weights in zip((quantised.kernel, quantised.bias), first, strict=True):
            variable.assign(weights)
    return student


def _saturation(port: Port) -> Quantizer:
    """To [-1, 1), with all the bits that a word has below it."""
    fixed = {"trainable": False, "ir": None, "fr": None}
    config = QuantizerConfig(
        "kif", "datalane", k0=True, i0=0, f0=port.fraction_bits, round_mode="RND", overflow_mode="SAT", **fixed
    )
    return Quantizer(config, name="saturation", trainable=False)


def _quantised(student: keras.Model) -> list[QDense]:
    return [layer for layer in student.layers if isinstance(layer, QDense)]


def distil(student: keras.Model, train: Lesson, validation: Lesson, port: Port, config: FirmwareConfig) -> Learnt:
    """Train the student, and leave it as it was after the epoch of the least validation loss, widened."""
    steps = config.epochs * -(-len(train.values) // config.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    best = _BestEpoch(validation, port)
    student.fit(
        train.values,
        train.shares,
        sample_weight=train.weights,
        batch_size=config.batch_size,
        epochs=config.epochs,
        verbose=0,
        callbacks=[FreeEBOPs(), best],
    )
    student.set_weights(best.weights)
    return best.learnt


class _BestEpoch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Keeps the weights of the least validation loss.

    While it trains, HGQ2 gives values inside no more bits than the last events needed: other events would wrap. So the
    loss is that of the widened student, and the training goes on with what it had.
    """

    def __init__(self, validation: Lesson, port: Port) -> None:
        super().__init__()
        self.learnt = Learnt(0, np.inf, 0)
        self.weights: list[NDArray[Any]] = []
        self._validation, self._port = validation, port

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Look at the epoch."""
        before = self.model.get_weights()
        widen(self.model, self._port)
        loss = cross_entropy(logits_of(self.model, self._validation.values), self._validation)
        if loss < self.learnt.validation_loss:
            self.learnt = Learnt(epoch + 1, loss, int(logs["ebops"]))
            self.weights = self.model.get_weights()
        self.model.set_weights(before)


def cross_entropy(logits: FloatArray, lesson: Lesson) -> float:
    """Weighted mean over events of -Σ share · ln(softmax of the logits), of logits (events, classes)."""
    logarithms = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return float(np.average(-(lesson.shares * logarithms).sum(axis=1), weights=lesson.weights))


def widen(student: keras.Model, port: Port) -> None:
    """Give every value inside as many bits before the point as any input whatsoever can need: none ever wraps."""
    low, high = (np.full(len(port.exponents), end) for end in port.ends)
    for layer in _quantised(student):
        quantizer = layer.iq.quantizer
        step = np.exp2(-_array(quantizer.f)[0])  # of each value
        low, high = (np.floor(end / step + 0.5) * step for end in (low, high))
        needed = np.maximum(np.maximum(high + step, -low), step)
        # HGQ2 sets these by itself, from samples, and has no other way.
        quantizer._k.assign((low < 0)[np.newaxis])
        quantizer._i.assign(np.ceil(np.log2(needed))[np.newaxis])
        kernel, bias = _array(layer.qkernel), _array(layer.qbias)
        up, down = np.maximum(kernel, 0), np.minimum(kernel, 0)
        low, high = (layer.activation(ends + bias) for ends in (low @ up + high @ down, high @ up + low @ down))
        low, high = _array(low), _array(high)


def _array(tensor: object) -> FloatArray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def logits_of(network: keras.Model, inputs: NDArray[Any] | Mapping[str, NDArray[Any]]) -> FloatArray:
    """Of a network without its softmax, (events, classes)."""
    return np.asarray(network.predict(inputs, batch_size=PREDICTED_EVENTS, verbose=0), np.float64)
