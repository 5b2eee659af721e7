"""What Spark forks its Python workers from: PySpark's own daemon, once it has imported what the tasks need."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module

MODULES_VARIABLE = "TOPOSIEVE_TASK_MODULES"
"""Modules to import, with commas between."""

_PACKAGES = ("toposieve.spark.", "toposieve.simulation.")


def task_modules() -> str:
    """Modules for :data:`MODULES_VARIABLE`: what the driver has imported, its tasks need too."""
    return ",".join(sorted(name for name in sys.modules if name.startswith(_PACKAGES)))


def import_all() -> None:
    """Import them, and what their libraries would import in each worker at the first use."""
    for name in ("pyspark.worker", "pandas", *filter(None, os.environ.get(MODULES_VARIABLE, "").split(","))):
        import_module(name)
    if "numba" in sys.modules:
        from numba.core.registry import cpu_target

        cpu_target.target_context.refresh()


if __name__ == "__main__":
    from pyspark import daemon

    import_all()
    # A worker collects garbage after each task: 60 ms, if it has to look at every object of these modules.
    gc.freeze()
    daemon.manager()
