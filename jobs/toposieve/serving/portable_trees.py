"""Tree models as ONNX graphs, as :mod:`~toposieve.serving.portable` makes them of networks: one node has all trees.

What XGBoost, LightGBM and Spark ML keep are the same arrays by other names. Thresholds are single precision here, as
features are: rounded down where a model has more digits, the same events lie on either side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from toposieve.models import HIGH_LEVEL
from toposieve.preprocessing import Scaling
from toposieve.serving.graph import LOGITS, PROBABILITIES, TREES, Graph
from toposieve.tuning.forest import arrays_of
from toposieve.tuning.tree_models import LEAST_PROBABILITY

LESS, UP_TO = "BRANCH_LT", "BRANCH_LEQ"
"""Whether the events below a threshold go to the left, or those at it, too."""
LEAF = "LEAF"


@dataclass(frozen=True)
class Tree:
    """A tree; a node's number is its place."""

    feature: NDArray[np.int64]
    """(nodes,) what a node cuts on; negative in a leaf."""
    threshold: NDArray[np.float64]
    """(nodes,)."""
    children: NDArray[np.int64]
    """(nodes, 2) left, right."""
    values: NDArray[np.float64]
    """(nodes, classes) what is added up; of leaves alone."""


@dataclass(frozen=True)
class Ensemble:
    """Trees whose values are added up, class by class."""

    trees: list[Tree]
    mode: str
    """:data:`LESS` or :data:`UP_TO`."""
    start: NDArray[np.float64]
    """What the sums begin with, (classes,)."""
    softmax: bool
    """Whether the sums are scores of which the softmax is the probability, or probabilities."""


def trees_to_onnx(model: str, content: bytes, scaling: Scaling | None, metadata: Mapping[str, Any]) -> bytes:
    """A tree model as an ONNX file: the same bytes for the same model, scaling and metadata.

    Args:
        model: One of :data:`toposieve.models.TREE_MODELS`.
        content: Its file.
        scaling: How its events are scaled; None where nobody knows: the file takes them as they are.
        metadata: What the file says of itself: name → what JSON can say.
    """
    ensemble, graph = READERS[model](content), Graph()
    sums = graph.add("TreeEnsembleRegressor", [graph.add_input(HIGH_LEVEL, scaling)], "sums", **_attributes(ensemble))
    shares = graph.add("Softmax", [sums], "shares", axis=-1) if ensemble.softmax else sums
    least = graph.weight("least", np.array(LEAST_PROBABILITY, np.float32))
    floored, last = graph.add("Max", [shares, least], "floored"), graph.weight("last", np.array([-1]))
    # Not Log: that takes several numbers at once, and gives the last few of them, if they are fewer, other bits.
    graph.add("ReduceLogSum", [graph.add("Unsqueeze", [floored, last], "each"), last], LOGITS, keepdims=0)
    graph.add("Identity", [shares], PROBABILITIES)
    return graph.to_bytes(model, metadata)


def _attributes(ensemble: Ensemble) -> dict[str, Any]:
    """All nodes, one tree after the other, and all that is added up."""
    trees, sizes = ensemble.trees, [len(tree.feature) for tree in ensemble.trees]
    numbers = np.repeat(np.arange(len(trees)), sizes)  # (nodes,)
    places = np.concatenate([np.arange(size) for size in sizes])
    feature, threshold, children, values = (
        np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("feature", "threshold", "children", "values")
    )
    inner = feature >= 0
    leaves, classes = np.nonzero((values != 0) & ~inner[:, np.newaxis])
    return {
        "domain": TREES,
        "n_targets": values.shape[1],
        "base_values": ensemble.start.tolist(),
        "nodes_treeids": numbers.tolist(),
        "nodes_nodeids": places.tolist(),
        "nodes_modes": np.where(inner, ensemble.mode, LEAF).tolist(),
        "nodes_featureids": np.where(inner, feature, 0).tolist(),
        "nodes_values": np.where(inner, _rounded_down(threshold), 0).tolist(),
        "nodes_truenodeids": np.where(inner, children[:, 0], 0).tolist(),
        "nodes_falsenodeids": np.where(inner, children[:, 1], 0).tolist(),
        "target_treeids": numbers[leaves].tolist(),
        "target_nodeids": places[leaves].tolist(),
        "target_ids": classes.tolist(),
        "target_weights": values[leaves, classes].tolist(),
    }


def _rounded_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """In single precision, not above; what is exact stays."""
    rounded = values.astype(np.float32)
    below: NDArray[np.float32] = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > values, below, rounded)


# --- what each of them keeps -----------------------------------------------------------------------------------------


def _of_one_class(values: NDArray[np.float64], place: int, classes: int) -> NDArray[np.float64]:
    """Values of a tree that has to do with one class alone, (nodes, classes)."""
    return np.outer(values, np.eye(classes)[place])


def read_forest(content: bytes) -> Ensemble:
    """Spark ML's random forest: the mean of its trees' shares."""
    arrays = [arrays_of(tree) for tree in json.loads(content)]
    trees = [Tree(each.feature, each.threshold, each.children, each.shares / len(arrays)) for each in arrays]
    return Ensemble(trees, UP_TO, np.zeros(trees[0].values.shape[1]), softmax=False)


def read_xgboost(content: bytes) -> Ensemble:
    """XGBoost's JSON: a leaf's value is where its threshold would be; of two classes it has the second one's alone."""
    learner = json.loads(content)["learner"]
    parameters, model = learner["learner_model_param"], learner["gradient_booster"]["model"]
    classes, start = int(parameters["num_class"]), np.array(json.loads(parameters["base_score"]), np.float64)
    of_two = classes == 0
    if of_two:
        classes, start = 2, np.array([0.0, logit(start.item())])
    start, trees = np.resize(start, classes), []
    for tree, place in zip(model["trees"], model["tree_info"], strict=True):
        children = np.array([tree["left_children"], tree["right_children"]]).T  # (nodes, 2)
        feature = np.where(children[:, 0] < 0, -1, tree["split_indices"])
        # They were single before they were text.
        numbers = np.array(tree["split_conditions"], np.float32).astype(np.float64)
        trees.append(Tree(feature, numbers, children, _of_one_class(numbers, place + of_two, classes)))
    return Ensemble(trees, LESS, start, softmax=True)


def read_lightgbm(content: bytes) -> Ensemble:
    """LightGBM's text, as it dumps it itself."""
    import lightgbm

    dumped = lightgbm.Booster(model_str=content.decode()).dump_model()
    classes = dumped["num_class"]
    trees = [
        _flat(each["tree_structure"], number % classes, classes) for number, each in enumerate(dumped["tree_info"])
    ]
    return Ensemble(trees, UP_TO, np.zeros(classes), softmax=True)


def _flat(root: dict[str, Any], place: int, classes: int) -> Tree:
    nodes = list(_nodes(root))
    numbers = {id(node): number for number, node in enumerate(nodes)}
    children = [[numbers.get(id(node.get(f"{side}_child")), 0) for side in ("left", "right")] for node in nodes]
    return Tree(
        np.array([node.get("split_feature", -1) for node in nodes]),
        np.array([node.get("threshold", 0.0) for node in nodes]),
        np.array(children),
        _of_one_class(np.array([node.get("leaf_value", 0.0) for node in nodes]), place, classes),
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for side in ("left_child", "right_child"):
        if side in node:
            yield from _nodes(node[side])


READERS: dict[str, Callable[[bytes], Ensemble]] = {
    "random_forest": read_forest,
    "xgboost": read_xgboost,
    "lightgbm": read_lightgbm,
}
"""Each of :data:`toposieve.models.TREE_MODELS`."""
