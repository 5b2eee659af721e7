"""``make stream`` on a registry of its user's: the whole way through the real scorer."""

import os
import re
import subprocess
import sys
from pathlib import Path

from support.repository import REPOSITORY
from support.serving_data import small_model
from support.serving_processes import point_to
from toposieve.io.store import root_key
from toposieve.registry import registry_folder
from toposieve.serving.exports import keep_export


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
    assert re.search(r"latency after the first 5 s: p50 \d+ ms, p99 \d+ ms", done.stdout)
    assert re.findall(r"version (\d) is published", done.stdout) == ["3", "2"]
    assert set(re.findall(r" (\d):\d+", done.stdout)) == {"2", "3"}
    assert len((folder / "published").list()) == 1, "the user's own registry stays as it is"
