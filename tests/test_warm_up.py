import os
import subprocess
import sys
from pathlib import Path

CODE = """
import importlib, pkgutil
from numba.core.dispatcher import Dispatcher
from toposieve import physics
from toposieve.warm_up import warm_up

warm_up()
names = [found.name for found in pkgutil.iter_modules(physics.__path__)]
modules = [importlib.import_module(f"toposieve.physics.{name}") for name in names]
kernels = {each for module in modules for each in vars(module).values() if isinstance(each, Dispatcher)}
assert len(kernels) > 15
print("left out:", [kernel.__name__ for kernel in kernels if not kernel.signatures])
"""


def test_every_kernel_is_compiled(tmp_path: Path) -> None:
    # In a process of its own, without what earlier tests have compiled.
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "left out: []"
