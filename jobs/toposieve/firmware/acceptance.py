"""When firmware is accepted: it says what its student says, to the bit, and tells classes apart as the network does.

Numbers in, sentences out: none of the packages that make firmware is needed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toposieve.evaluation import metrics
from toposieve.io.scores import probabilities

Logits = NDArray[np.float64]
ROUNDING = 1e-12
"""Of a difference of areas."""


@dataclass(frozen=True)
class Findings:
    """What was compared.

    Attributes:
        differing: Name of some events → logits of the simulated Verilog that are not those of the quantised student.
        differing_from_hls4ml: The same names → logits of the simulated Verilog that are not those of hls4ml's C++.
        compared: The same names → logits compared.
        fault_differing: Test logits that differ when one adder of the Verilog is turned into a subtractor.
        auc: Class → area of the firmware.
        network_auc: Class → area of the network it was distilled from.
    """

    differing: Mapping[str, int]
    differing_from_hls4ml: Mapping[str, int]
    compared: Mapping[str, int]
    fault_differing: int
    auc: Mapping[str, float]
    network_auc: Mapping[str, float]


def differing_logits(expected: Logits, found: Logits) -> int:
    """How many logits are not the same number, (events, classes) both.

    Raises:
        ValueError: They are of another number of events or classes.
    """
    if expected.shape != found.shape:
        raise ValueError(f"{found.shape} logits cannot be compared with {expected.shape}")
    return int(np.count_nonzero(~(expected == found)))  # NaN is never the same


def areas(labels: NDArray[np.int64], weights: NDArray[np.float64], logits: Logits, classes: Sequence[str]) -> Areas:
    """Area under the ROC curve of each class against the rest, as the report of an evaluation has it.

    Args:
        labels: (events,).
        weights: (events,).
        logits: (events, classes).
        classes: Their names.
    """
    shares = probabilities(logits.astype(np.float32))
    rankings = (metrics.rank(shares[:, label], labels == label) for label in range(len(classes)))
    return {name: metrics.auc(metrics.roc_curve(each, weights)) for name, each in zip(classes, rankings, strict=True)}


Areas = dict[str, float]
"""Class → area."""


def objections(findings: Findings, tolerance: float) -> list[str]:
    """Why firmware is not accepted; empty if it is.

    Args:
        findings: What was compared.
        tolerance: Most by which an area may differ from the network's.
    """
    others = {"quantised network": findings.differing, "hls4ml's C++": findings.differing_from_hls4ml}
    found = [
        f"{count:,} of {findings.compared[name]:,} logits of {name} events differ between Verilog and {other}"
        for other, differing in others.items()
        for name, count in differing.items()
        if count
    ]
    if not all(findings.compared.values()):
        found.append("nothing was compared")
    if not findings.fault_differing:
        found.append("the comparison does not notice an adder that subtracts")
    for name, area in findings.auc.items():
        network = findings.network_auc[name]
        if not abs(area - network) <= tolerance + ROUNDING:  # NaN is not
            found.append(f"the AUC of {name} is {area:.4f}, the network's {network:.4f}: more than {tolerance:g} apart")
    return found
