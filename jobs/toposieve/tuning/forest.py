"""A random forest of Spark ML as arrays: kept as JSON, and applied without Spark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Tree = list[dict[str, Any]]
"""Nodes by their numbers, as Spark ML writes them: ``split``, ``leftChild`` and ``rightChild``, of a leaf
``impurityStats``, the sums of its events' weights by class."""


def trees_of(model: Any) -> list[Tree]:
    """The trees of a fitted ``RandomForestClassificationModel``.

    Spark has no other way to bring a model here than files in a store of Hadoop's, which not every base is.
    """
    from pyspark import SparkContext

    jvm: Any = SparkContext._jvm
    jackson, annotation = jvm.com.fasterxml.jackson.databind, jvm.com.fasterxml.jackson.annotation
    mapper = jackson.ObjectMapper()
    mapper.configure(jackson.MapperFeature.AUTO_DETECT_GETTERS, False)
    mapper.setVisibility(
        annotation.PropertyAccessor.FIELD,
        getattr(jvm, "com.fasterxml.jackson.annotation.JsonAutoDetect$Visibility").ANY,
    )
    nodes = getattr(getattr(jvm.org.apache.spark.ml.tree, "DecisionTreeModelReadWrite$NodeData$"), "MODULE$")
    to_list = jvm.scala.jdk.javaapi.CollectionConverters.asJava
    roots = [tree.rootNode() for tree in model._java_obj.trees()]
    return [json.loads(mapper.writeValueAsString(to_list(nodes.build(root, 0)._1()))) for root in roots]


class TreeArrays(NamedTuple):
    """A tree, ready to be applied."""

    feature: NDArray[np.int64]
    """(nodes,) what a node cuts on; negative in a leaf."""
    threshold: NDArray[np.float64]
    """(nodes,)."""
    children: NDArray[np.int64]
    """(nodes, 2) the nodes below, the first for values up to the threshold."""
    shares: NDArray[np.float64]
    """(nodes, classes) of its events' weights."""


def arrays_of(tree: Tree) -> TreeArrays:
    """The arrays of a tree."""
    stats = np.array([node["impurityStats"] for node in tree])
    return TreeArrays(
        np.array([node["split"]["featureIndex"] for node in tree]),
        np.array([(node["split"]["leftCategoriesOrThreshold"] or [np.inf])[0] for node in tree]),
        np.array([(node["leftChild"], node["rightChild"]) for node in tree]),
        stats / stats.sum(axis=1, keepdims=True),
    )


def probabilities(trees: Sequence[TreeArrays], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean over the trees of the share of each class in the leaf of each event.

    Args:
        trees: Of :func:`arrays_of`.
        features: (events, 14).

    Returns:
        (events, classes).
    """
    total = np.zeros((len(features), trees[0].shares.shape[1]))
    for tree in trees:
        total += tree.shares[_leaves(tree, features)]
    return total / len(trees)


def _leaves(tree: TreeArrays, features: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number of the leaf of each event, (events,)."""
    place, rows = np.zeros(len(features), np.int64), np.arange(len(features))
    while (inner := tree.feature[place] >= 0).any():
        is_right = features[rows, tree.feature[place]].astype(np.float64) > tree.threshold[place]
        place = np.where(inner, tree.children[place, is_right.astype(np.int64)], place)
    return place
