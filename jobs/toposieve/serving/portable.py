"""Networks as ONNX graphs, which need neither Keras nor TensorFlow (:mod:`~toposieve.serving.graph`).

Written node by node: converters make a loop of a recurrent layer, which is six times as slow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from onnx import TensorProto, helper

from toposieve.models import PARTICLES
from toposieve.preprocessing import Scaling
from toposieve.serving.exports import ONE_BY_ONE, NotPortableError
from toposieve.serving.graph import LENGTHS, Array, Graph

_ACTIVATIONS = {"relu": "Relu", "gelu": "Gelu"}


def to_onnx(model: keras.Model, scaling: Scaling | None, metadata: Mapping[str, Any]) -> bytes:
    """A model as an ONNX file: the same bytes for the same weights, scaling and metadata.

    Args:
        model: On scaled events, with the softmax.
        scaling: How these are scaled; None where nobody knows: the file takes them as they are.
        metadata: What the file says of itself: name → what JSON can say.

    Raises:
        NotPortableError: It has a layer that has no place in such a graph.
    """
    graph = _Graph()
    scaled = {name: graph.add_input(name, scaling) for name in model.input}
    for layer in model.operations:
        if isinstance(layer, keras.layers.InputLayer):
            graph.names[id(layer.output)] = scaled[layer.name]
            continue
        translate = next((each for kind, each in _LAYERS.items() if isinstance(layer, kind)), None)
        if type(layer).__name__ == "GetItem":  # Keras has the class to itself
            translate = _first_rows
        if translate is None:
            if getattr(layer.output, "dtype", None) == "bool":  # a mask: lengths say what is real
                continue
            raise NotPortableError(
                f"{model.name} has a layer {layer.name} ({type(layer).__name__}), which has no portable form: serve "
                "its SavedModel instead"
            )
        given = layer.input if isinstance(layer.input, list) else [layer.input]
        known = [graph.names[id(tensor)] for tensor in given if id(tensor) in graph.names]  # a mask is no layer's
        graph.names[id(layer.output)] = translate(graph, layer, known)
    return graph.to_bytes(model.name, {**metadata, ONE_BY_ONE: True} if graph.minds_padding else metadata)


class _Graph(Graph):
    """With what several layers have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[int, str] = {}
        """Tensor of Keras → what it is called here."""
        self._made: set[str] = set()
        """What there is once: the names of what says which particles are real."""
        self.is_masked = False
        """Whether attention leaves padding out."""

    def gemm(self, name: str, given: str, weights: tuple[str, str]) -> str:
        """A layer of (events, any), of :meth:`dense_weights`."""
        return self.add("Gemm", [given, *weights], name)

    def of_each(self, name: str, given: str, weights: tuple[str, str]) -> str:
        """The same of each particle, (events, particles, any)."""
        kernel, bias = weights
        return self.add("Add", [self.add("MatMul", [given, kernel], f"{name}_products"), bias], name)

    def dense_weights(self, name: str, kernel: Array, bias: Array) -> tuple[str, str]:
        """Those of a layer."""
        return self.weight(f"{name}_kernel", kernel), self.weight(f"{name}_bias", bias)

    def reshaped(self, name: str, given: str, shape: list[int]) -> str:
        """In another shape, of which 0 stands for what it was."""
        return self.add("Reshape", [given, self.weight(f"{name}_shape", np.array(shape))], name)

    @property
    def minds_padding(self) -> bool:
        """Whether sums go over padding: as it is 0 they are the same, but for the order in which they are made."""
        return bool(self._made)

    def real(self) -> str:
        """1 for a particle, 0 for padding: (events, particles)."""
        if "real" not in self._made:
            self._made.add("real")
            shape = self.add("Shape", [PARTICLES], "particles_count", start=1, end=2)
            zero, one = self.weight("real_zero", np.array(0)), self.weight("real_one", np.array(1))
            count = self.add("Squeeze", [shape], "particles_width")
            places = self.add("Range", [zero, count, one], "particles_places")
            lengths = self.add("Cast", [LENGTHS], "lengths_wide", to=TensorProto.INT64)
            column = self.add("Unsqueeze", [lengths, self.weight("real_axis", np.array([1]))], "lengths_column")
            is_real = self.add("Less", [places, column], "is_real")
            self.add("Cast", [is_real], "real", to=TensorProto.FLOAT)
        return "real"

    def only_real(self, name: str, given: str) -> str:
        """0 for padding, and what is real as it is: (events, particles, any)."""
        axis = self.weight(f"{name}_axis", np.array([2]))
        return self.add("Mul", [given, self.add("Unsqueeze", [self.real(), axis], f"{name}_real")], f"{name}_kept")

    def padding_bias(self) -> str:
        """0 for a particle, and what leaves nothing of a share for padding: (events, 1, 1, particles)."""
        if "padding_bias" not in self._made:
            self._made.add("padding_bias")
            absent = self.add("Sub", [self.real(), self.weight("padding_one", np.array(1, np.float32))], "padding")
            lowered = self.add("Mul", [absent, self.weight("padding_size", np.array(1e9, np.float32))], "padding_low")
            self.add("Unsqueeze", [lowered, self.weight("padding_axes", np.array([1, 2]))], "padding_bias")
        return "padding_bias"

    def recurrent(self, kind: str, name: str, sequences: str, weights: tuple[Array, Array, Array], **more: Any) -> str:
        """The last state of real particles: steps come first, and there is one direction."""
        first = self.add("Transpose", [sequences], f"{name}_steps", perm=[1, 0, 2])
        kernel, recurrent, bias = (
            self.weight(f"{name}_{part}", values[np.newaxis])
            for part, values in zip(("kernel", "recurrent", "bias"), weights, strict=True)
        )
        units = weights[1].shape[1]
        last = f"{name}_last"
        self.nodes.append(
            helper.make_node(
                kind, [first, kernel, recurrent, bias, LENGTHS], ["", last], name=last, hidden_size=units, **more
            )
        )
        return self.add("Squeeze", [last, self.weight(f"{name}_direction", np.array([0], np.int64))], name)


def _gru(graph: _Graph, layer: keras.layers.GRU, inputs: list[str]) -> str:
    """Gates in the same order: update, reset, candidate; the reset after the product, as Keras has it."""
    kernel, recurrent, bias = layer.get_weights()
    return graph.recurrent(
        "GRU", layer.name, inputs[0], (kernel.T, recurrent.T, bias.reshape(-1)), linear_before_reset=1
    )


def _lstm(graph: _Graph, layer: keras.layers.LSTM, inputs: list[str]) -> str:
    """Input, forget, candidate, output in Keras; input, output, forget, candidate here, and a second bias."""
    kernel, recurrent, bias = (_gates(values) for values in layer.get_weights())
    return graph.recurrent("LSTM", layer.name, inputs[0], (kernel.T, recurrent.T, np.append(bias, np.zeros_like(bias))))


def _gates(values: Array) -> Array:
    taken, kept, candidate, shown = np.split(values, 4, axis=-1)
    return np.concatenate([taken, shown, kept, candidate], axis=-1)


def _dense(graph: _Graph, layer: keras.layers.Dense, inputs: list[str]) -> str:
    activation = layer.activation.__name__
    sums = graph.of_each if len(layer.input.shape) > 2 else graph.gemm
    if activation not in ("linear", *_ACTIVATIONS):
        raise NotPortableError(f"layer {layer.name}: {activation} has no portable form: serve the SavedModel instead")
    weights = graph.dense_weights(layer.name, *layer.get_weights())
    if activation == "linear":
        return sums(layer.name, inputs[0], weights)
    return graph.add(_ACTIVATIONS[activation], [sums(f"{layer.name}_sums", inputs[0], weights)], layer.name)


def _norm(graph: _Graph, layer: keras.layers.LayerNormalization, inputs: list[str]) -> str:
    scale, offset = (graph.weight(f"{layer.name}_{i}", values) for i, values in enumerate(layer.get_weights()))
    given = [inputs[0], scale, offset]
    return graph.add("LayerNormalization", given, layer.name, axis=-1, epsilon=float(layer.epsilon))


def _attention(graph: _Graph, layer: keras.layers.MultiHeadAttention, inputs: list[str]) -> str:
    """Of particles among themselves; behind a mask none attends to padding."""
    name, (*weights, mixing, mixing_bias) = layer.name, layer.get_weights()
    units, heads, width = weights[0].shape

    def project(part: str, kernel: Array, bias: Array, order: list[int]) -> str:
        projecting = graph.dense_weights(f"{name}_{part}_flat", kernel.reshape(units, -1), bias.reshape(-1))
        flat = graph.of_each(f"{name}_{part}_flat", inputs[0], projecting)
        apart = graph.reshaped(f"{name}_{part}_apart", flat, [0, 0, heads, width])
        return graph.add("Transpose", [apart], f"{name}_{part}", perm=order)

    size = np.sqrt(np.float32(width))
    query = project("query", weights[0] / size, weights[1] / size, [0, 2, 1, 3])
    key = project("key", weights[2], weights[3], [0, 2, 3, 1])
    value = project("value", weights[4], weights[5], [0, 2, 1, 3])
    scores = graph.add("MatMul", [query, key], f"{name}_similar")  # (events, heads, particles, particles)
    if graph.is_masked:
        scores = graph.add("Add", [scores, graph.padding_bias()], f"{name}_scores")
    shares = graph.add("Softmax", [scores], f"{name}_shares", axis=-1)
    summed = graph.add("MatMul", [shares, value], f"{name}_summed")
    together = graph.add("Transpose", [summed], f"{name}_together", perm=[0, 2, 1, 3])
    flat = graph.reshaped(f"{name}_flat", together, [0, 0, heads * width])
    return graph.of_each(name, flat, graph.dense_weights(name, mixing.reshape(heads * width, -1), mixing_bias))


def _mean(graph: _Graph, layer: keras.layers.GlobalAveragePooling1D, inputs: list[str]) -> str:
    """Of real particles."""
    kept = graph.only_real(layer.name, inputs[0])
    axis = graph.weight(f"{layer.name}_particles", np.array([1]))
    total = graph.add("ReduceSum", [kept, axis], f"{layer.name}_total", keepdims=0)
    count = graph.add("ReduceSum", [f"{layer.name}_real", axis], f"{layer.name}_count", keepdims=0)
    return graph.add("Div", [total, count], layer.name)


def _masking(graph: _Graph, layer: keras.layers.Masking, inputs: list[str]) -> str:
    graph.is_masked = True
    return inputs[0]


def _more_rows(graph: _Graph, layer: keras.layers.ZeroPadding1D, inputs: list[str]) -> str:
    """Padding counts where it is not masked: it is 0, and not what 0 is scaled to."""
    (before, after), kept = layer.padding, graph.only_real(layer.name, inputs[0])
    return graph.add(
        "Pad", [kept, graph.weight(f"{layer.name}_ends", np.array([0, before, 0, 0, after, 0]))], layer.name
    )


def _first_rows(graph: _Graph, operation: keras.Operation, inputs: list[str]) -> str:
    """``[:, :rows]``."""
    name, (_, (_, rows)) = operation.name, operation._inbound_nodes[0].arguments.args
    numbers = {"start": 0, "stop": rows.stop, "axis": 1}
    return graph.add(
        "Slice", [inputs[0], *(graph.weight(f"{name}_{key}", np.array([n])) for key, n in numbers.items())], name
    )


def _same(graph: _Graph, layer: keras.Layer, inputs: list[str]) -> str:
    return inputs[0]


_LAYERS: dict[type[keras.Operation], Callable[[_Graph, Any, list[str]], str]] = {
    keras.layers.Dense: _dense,
    keras.layers.GRU: _gru,
    keras.layers.LSTM: _lstm,
    keras.layers.LayerNormalization: _norm,
    keras.layers.MultiHeadAttention: _attention,
    keras.layers.GlobalAveragePooling1D: _mean,
    keras.layers.Add: lambda graph, layer, inputs: graph.add("Add", inputs, layer.name),
    keras.layers.Concatenate: lambda graph, layer, inputs: graph.add("Concat", inputs, layer.name, axis=1),
    keras.layers.Softmax: lambda graph, layer, inputs: graph.add("Softmax", inputs, layer.name, axis=-1),
    keras.layers.Masking: _masking,
    keras.layers.ZeroPadding1D: _more_rows,
    keras.layers.Reshape: lambda graph, layer, inputs: graph.reshaped(layer.name, inputs[0], [0, *layer.target_shape]),
    keras.layers.Dropout: _same,
}
"""Layer → how to write it, given the names of what it takes; gives the name of what it puts out."""
