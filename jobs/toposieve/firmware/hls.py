"""A second simulation of a student, by hls4ml: C++ that shares nothing with alkaid, its Verilog and Verilator.

It is about what is computed, not about what an HLS compiler would make of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from hls4ml.converters import convert_from_keras_model

from toposieve.firmware.port import FloatArray, Port, Words
from toposieve.firmware.student import dense_layers
from toposieve.firmware.yosys import TOP


def simulate(student: keras.Model, port: Port, words: Mapping[str, Words], folder: Path) -> dict[str, FloatArray]:
    """Logits of some words, (events, 14) → (events, classes) each, under the same names.

    hls4ml makes one of two quantizers in a row, so the first, which saturates, is done here.

    Args:
        student: As :mod:`toposieve.firmware.student` makes it, with the formats that the last prediction left.
        port: What it takes.
        words: Of the port.
        folder: To write to.
    """
    behind = keras.Model(dense_layers(student)[0].input, student.output)
    model = convert_from_keras_model(
        behind, output_dir=str(folder), project_name=TOP, backend="Vitis", io_type="io_parallel", bit_exact=True
    )
    model.compile()
    return {
        name: np.asarray(model.predict(np.clip(port.values(each), *port.ends).astype(np.float32)), np.float64)
        for name, each in words.items()
    }
