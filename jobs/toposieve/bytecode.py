"""Import all that the jobs do, so that Python keeps its bytecode: ``python -m toposieve.bytecode``.

It is a third of what is installed: to compile everything takes three times as long.
"""

from __future__ import annotations

import importlib
import pkgutil
from contextlib import suppress

import toposieve

CRASHES = "toposieve.io.store.root"
"""XRootD's library, where TensorFlow is loaded already."""


def import_everything() -> None:
    """Import every module, and with it the libraries that it uses, unless they belong to another environment."""
    for found in pkgutil.walk_packages(toposieve.__path__, "toposieve."):
        if found.name != CRASHES:
            with suppress(ModuleNotFoundError):
                importlib.import_module(found.name)


if __name__ == "__main__":
    import_everything()
