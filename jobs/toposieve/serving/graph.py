"""An ONNX graph, written node by node: physical units in, logits and probabilities out.

A graph takes ``high_level`` (events, 14), or ``particles`` (events, particles, 19), in sequence order and padded on the
right, with ``lengths`` (events,), how many of them are real; or both. What a model is, and what it takes, is in the
graph's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from toposieve.models import PARTICLES
from toposieve.preprocessing import Scaling
from toposieve.registry import FEATURES

LENGTHS = "lengths"
LOGITS, PROBABILITIES = "logits", "probabilities"
TREES = "ai.onnx.ml"
"""Domain of the operators that are made of trees."""

_OPSETS, _IR = {"": 22, TREES: 3}, 10

Array = NDArray[Any]


class Graph:
    """Nodes and weights so far."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node with one output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, values: Array) -> str:
        """Numbers that belong to the model."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add_input(self, name: str, scaling: Scaling | None) -> str:
        """An input, and the same scaled, if it is in physical units."""
        shape: list[str | int] = ["events"]
        if name == PARTICLES:
            shape.append(PARTICLES)
            self.inputs.append(helper.make_tensor_value_info(LENGTHS, TensorProto.INT32, ["events"]))
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [*shape, len(FEATURES[name])]))
        if scaling is None:
            return name
        if name == PARTICLES:
            offset, scale = scaling.particle_offset, scaling.particle_scale
        else:
            offset, scale = scaling.high_level_offset, scaling.high_level_scale
        moved = self.add("Sub", [name, self.weight(f"{name}_offset", offset)], f"{name}_moved")
        return self.add("Div", [moved, self.weight(f"{name}_scale", scale)], f"{name}_scaled")

    def to_bytes(self, name: str, metadata: Mapping[str, Any]) -> bytes:
        """The file; nodes have given ``logits`` and ``probabilities``.

        Args:
            name: Of the model.
            metadata: What the file says of itself: name → what JSON can say.
        """
        outputs = [
            helper.make_tensor_value_info(each, TensorProto.FLOAT, ["events", None]) for each in (LOGITS, PROBABILITIES)
        ]
        domains = sorted({"", *(node.domain for node in self.nodes)})
        made = helper.make_model(
            helper.make_graph(self.nodes, name, self.inputs, outputs, self.weights),
            opset_imports=[helper.make_opsetid(domain, _OPSETS[domain]) for domain in domains],
            ir_version=_IR,
            producer_name="toposieve",
        )
        helper.set_model_props(
            made, {key: json.dumps(value, sort_keys=True) for key, value in sorted(metadata.items())}
        )
        onnx.checker.check_model(made, full_check=True)
        content: bytes = made.SerializeToString(deterministic=True)
        return content
