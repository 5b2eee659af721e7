"""TensorBoard's logs of a run, wherever the run's folder is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import tensorflow as tf

from toposieve.io.store import Key
from toposieve.training.runs import TENSORBOARD_DIRECTORY

README_NAME = "README.txt"


class EpochLog:
    """Writes into the run's folder if it is one of this machine, otherwise into scratch, uploaded after each epoch.

    TensorBoard follows a file that grows, and not one that is replaced.

    Args:
        run_directory: The run's folder.
    """

    def __init__(self, run_directory: Key) -> None:
        """Write nothing yet."""
        self._folder = run_directory / TENSORBOARD_DIRECTORY
        self._stack = ExitStack()
        self._scratch: Path | None = None

    def __enter__(self) -> EpochLog:
        """Begin a file of its own: names have the time and the host in them."""
        local = _local_folder(self._folder)
        if local is None:
            local = self._scratch = Path(self._stack.enter_context(TemporaryDirectory(prefix="toposieve-")))
        self._writer = tf.summary.create_file_writer(str(local))
        self._stack.callback(self._writer.close)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Close the file."""
        self._stack.close()

    def write(self, epoch: int, results: Mapping[str, float]) -> None:
        """Write an epoch's results, so that they can be seen at once."""
        with self._writer.as_default(step=epoch):
            for name, value in results.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
        for source in self._scratch.iterdir() if self._scratch else ():
            with (self._folder / source.name).create() as path:
                shutil.copyfile(source, path)


def _local_folder(folder: Key) -> Path | None:
    """A folder's path, if what lies in it is read without a copy."""
    readme = folder / README_NAME
    readme.write_text("Logs of one training run: tensorboard --logdir with this folder, or one above it.\n")
    with readme.fetch() as path:
        return path.parent if str(path) == str(readme) else None
