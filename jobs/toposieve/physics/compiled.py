"""The one decorator of the compiled kernels.

Kernels are plain loops over flat arrays with offsets, compiled by numba and cached on disk. Numba invalidates a cached
kernel when the kernel's own file changes, and so misses a change in a kernel that it calls from another file, or in a
constant of ``schema.py``. Here the cache is stamped with a digest of all of these sources instead.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from importlib import resources
from typing import Any, TypeVar, cast

import numba

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

REORDER = frozenset({"reassoc", "nsz"})
"""Floating-point liberties that let a sum vectorise. They change no product, difference or comparison."""


def kernel(function: FunctionT) -> FunctionT:
    """Compile a function on its first call, without the GIL and with IEEE arithmetic."""
    return cast(FunctionT, _compile(function))


def summing_kernel(function: FunctionT) -> FunctionT:
    """Compile a function whose sums may run in any order (see :data:`REORDER`)."""
    return cast(FunctionT, _compile(function, fastmath=set(REORDER)))


def dividing_kernel(function: FunctionT) -> FunctionT:
    """Compile a function in which x / 0 is infinite or NaN, not an error: the test for it costs a quarter."""
    return cast(FunctionT, _compile(function, error_model="numpy"))


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    if getattr(numba.config, "DISABLE_JIT", False):  # plain Python, for a debugger
        return function
    compiled = numba.njit(cache=True, nogil=True, **options)(function)
    compiled._cache._cache_file._source_stamp = sources_digest()
    return compiled


@functools.cache
def sources_digest() -> str:
    """Digest of every source file that compiled code can depend on."""
    physics = sorted(resources.files("toposieve.physics").iterdir(), key=lambda path: path.name)
    sources = [path for path in physics if path.name.endswith(".py")]
    sources.append(resources.files("toposieve").joinpath("schema.py"))
    return hashlib.blake2b(b"\0".join(path.read_bytes() for path in sources), digest_size=16).hexdigest()
