"""Trains as if the second of two virtual devices were a GPU, in a process of its own: devices are made once.

    python -m support.second_device DATASET RUN

prints the history, and the devices of the particles that each step was given.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from support.training_data import key_of
from toposieve.config import TrainingConfig
from toposieve.io.store import Key
from toposieve.training import loop
from toposieve.training.gang import Gang
from toposieve.training.records import Batch
from toposieve.training.shards import open_dataset
from toposieve.training.steps import Steps

CONFIG = TrainingConfig(model="inclusive_masked_transformer", set_units=8, epochs=2, batch_size=8)


def main(dataset: str, run: str) -> None:
    """Train and print."""
    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    second = tf.config.list_logical_devices("CPU")[1]
    tf.config.list_logical_devices = lambda kind: [second] if kind == "GPU" else []
    devices, build = set[str](), loop.build_steps

    def build_watched(*of: object, **more: object) -> Steps:
        steps = build(*of, **more)

        def train(batches: Sequence[Batch], first: int, sums: np.ndarray) -> np.ndarray:
            devices.update(batch["particles"].device for batch in batches)
            return steps.train(batches, first, sums)

        return replace(steps, train=train)

    loop.build_steps = build_watched
    task = loop.Task(CONFIG, open_dataset(key_of(Path(dataset))), Gang(), Key(run))
    trained = loop.train(task, tf.distribute.get_strategy(), lambda: None)
    print(json.dumps([trained.progress.history, sorted(devices)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
