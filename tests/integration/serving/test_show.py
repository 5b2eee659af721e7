"""``make stream`` on a registry of its user's: the whole way through the real scorer."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from support.repository import REPOSITORY
from support.serving_data import metadata
from support.serving_processes import point_to
from toposieve.io.store import root_key
from toposieve.registry import registry_folder
from toposieve.serving.exports import keep_export


def small_model(seed: int) -> bytes:
    """One layer on high-level features."""
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


def test_events_flow_while_models_change(tmp_path: Path) -> None:
    folder = registry_folder(root_key("--base", str(tmp_path)), "topology")
    for version in (1, 2, 3):
        keep_export(folder, version, small_model(version), events=1, difference=0.0)
    point_to(folder, 2)
    command = [sys.executable, "-W", "ignore", "-m", "support.show_stream", "--base", str(tmp_path), "--seconds", "6"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(REPOSITORY / each) for each in ("jobs", "tests"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert re.search(r"([\d,]+) events, \1 decided, 0 lost, 0 twice; (\d+) of \2 messages", done.stdout)
    assert re.findall(r"version (\d) is published", done.stdout) == ["3", "2"]
    assert set(re.findall(r" (\d):\d+", done.stdout)) == {"2", "3"}
    assert len((folder / "published").list()) == 1, "the user's own registry stays as it is"
