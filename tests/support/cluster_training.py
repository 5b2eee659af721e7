"""Real training on a small dataset, in a folder that the pods of a cluster share."""

import os
import subprocess
from pathlib import Path
from typing import Any

from support.repository import REPOSITORY

TRAINING: dict[str, Any] = {
    "workers": 2,
    "training_epochs": 4,
    "training_batch_size": 8,
    "training_checkpoint_steps": 50,
}
"""Params of a run that takes some ten seconds and has checkpoints within its epochs."""

WRITE = """
import sys; from pathlib import Path; from support.training_data import write_dataset
write_dataset(Path(sys.argv[1]), train=2400, validation=400, lengths=(2, 9))
"""


def write_small_dataset(directory: Path) -> None:
    """Write a dataset; its files need the jobs' environment."""
    path = os.pathsep.join(str(REPOSITORY / folder) for folder in ("jobs", "tests"))
    command = [REPOSITORY / ".venv-jobs/bin/python", "-c", WRITE, directory]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
