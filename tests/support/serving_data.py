"""Portable models with weights and scalings of any kind, and events for them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from toposieve import schema
from toposieve.config import TrainingConfig
from toposieve.io.selected import PARTICLE_RECORD
from toposieve.models import ARCHITECTURES
from toposieve.preprocessing import SCALED_FEATURES, Scaling
from toposieve.registry import describe_features
from toposieve.serving.events import Event
from toposieve.serving.exports import units_of

MODELS = (
    "hlf",
    "particle_sequence",
    "inclusive",
    "inclusive_lstm",
    "inclusive_masked_transformer",
    "inclusive_transformer",
    "particle_sequence_transformer",
)
POINTS = [{"target": 0.9, "threshold": 0.35}, {"target": 0.99, "threshold": 0.2}]


def make_scaling() -> Scaling:
    """Another offset and scale for every feature."""
    random = np.random.default_rng(7)
    is_scaled = np.isin(schema.LOW_LEVEL_FEATURES, SCALED_FEATURES)
    return Scaling(
        high_level_offset=random.normal(3, 1, 14).astype(np.float32),
        high_level_scale=random.uniform(2, 4, 14).astype(np.float32),
        particle_offset=np.where(is_scaled, random.normal(1, 1, 19), 0).astype(np.float32),
        particle_scale=np.where(is_scaled, random.uniform(2, 4, 19), 1).astype(np.float32),
        weight_factors=dict.fromkeys(schema.SAMPLES, 1.0),
    )


def trained(name: str) -> Any:
    """A network of standard layers, on scaled events, with other weights than those that training starts from."""
    from toposieve.training.architectures import build_model
    from toposieve.training.export import standard

    model = standard(build_model(TrainingConfig(model=name), 3), None)
    random = np.random.default_rng(3)
    spreads = [min(0.2, 4 / values.shape[0] ** 0.5) for values in model.get_weights()]  # less where many are added up
    weights = zip(model.get_weights(), spreads, strict=True)
    model.set_weights([values + random.normal(0, spread, values.shape) for values, spread in weights])
    return model


def metadata(name: str, **more: Any) -> dict[str, Any]:
    """What an exported model says of itself."""
    features = describe_features(ARCHITECTURES[name].inputs)
    return {
        "classes": schema.SAMPLES,
        "features": {key: [[each.name, each.unit] for each in of] for key, of in features.items()},
        "thresholds": dict.fromkeys(schema.SAMPLES, POINTS),
        **more,
    }


def portable(name: str, *, scaled: bool = False, **more: Any) -> bytes:
    """The same, as an ONNX file that takes physical or scaled events; more is said of it, or something else."""
    from toposieve.serving.portable import to_onnx

    said = {"features": units_of(describe_features(ARCHITECTURES[name].inputs), scaled=scaled), **more}
    return to_onnx(trained(name), None if scaled else make_scaling(), metadata(name, **said))


def small_model(seed: int) -> bytes:
    """One layer on high-level features, as an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(seed).normal(size=(14, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["high_level", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    given = helper.make_tensor_value_info("high_level", TensorProto.FLOAT, ["events", 14])
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("logits", "probabilities")]
    graph = helper.make_graph(nodes, "small", [given], made, [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    helper.set_model_props(model, {name: json.dumps(value) for name, value in metadata("hlf").items()})
    content: bytes = model.SerializeToString()
    return content


def make_event(seed: int, particles: int = 20) -> Event:
    """A selected event."""
    random = np.random.default_rng(seed)
    records = np.zeros(particles, PARTICLE_RECORD)
    for feature in schema.STORED_PARTICLE_FEATURES:
        records[feature] = random.uniform(0, 3, particles)
    records["kind"] = random.integers(0, len(schema.PARTICLE_KINDS), particles)
    records["Charge"] = random.integers(-1, 2, particles)
    return Event(f"e{seed}", random.normal(3, 2, 14).astype(np.float32), records)
