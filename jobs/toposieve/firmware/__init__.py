"""Firmware of the network of high-level features: a quantised student, its Verilog, and the proof that both agree.

Only ``student``, ``hls`` and ``verilog`` need the packages of ``.venv-firmware``.
"""
