"""Count the cells that Yosys maps a design to: ``python -m toposieve.firmware.yosys`` in the design's folder.

In a process of its own, for Yosys's choices depend on what it has done before. Reads ``size.v``, writes ``size.json``.
"""

from __future__ import annotations

from pyosys import libyosys

TOP = "hlf"
"""The Verilog module."""
FAMILY = "xcup"
"""What Yosys maps to: AMD's UltraScale+."""
SOURCE, STATISTICS = "size.v", "size.json"


def main() -> None:
    """Do so."""
    design = libyosys.Design()
    libyosys.run_pass(f"read_verilog -sv {SOURCE}", design)
    libyosys.run_pass(f"synth_xilinx -family {FAMILY} -top {TOP} -flatten -noiopad -noclkbuf", design)
    libyosys.run_pass(f"tee -q -o {STATISTICS} stat -json -tech xilinx", design)


if __name__ == "__main__":
    main()
