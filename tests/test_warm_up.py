import importlib
import pkgutil

from numba.core.dispatcher import Dispatcher

from toposieve import physics
from toposieve.warm_up import warm_up


def test_every_kernel_is_compiled() -> None:
    warm_up()
    modules = [
        importlib.import_module(f"toposieve.physics.{found.name}") for found in pkgutil.iter_modules(physics.__path__)
    ]
    kernels = {each for module in modules for each in vars(module).values() if isinstance(each, Dispatcher)}
    assert len(kernels) > 15
    assert [kernel.__name__ for kernel in kernels if not kernel.signatures] == []
