"""The one place that makes the environment of a job, whoever starts it: locale, caches, the user's name, Spark, Python.

A Spark job that plain Python starts has a Spark and a Python of its own. Under ``spark-submit`` the submitter has made
them. ``HADOOP_CONF_DIR`` stays in both cases: it says where YARN and HDFS are. So do ``SPARK_SUBMIT_OPTS`` and
``PYSPARK_SUBMIT_ARGS``, for options of Java and of Spark. In ``PYTHONPATH`` this library's folder comes first.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from toposieve.errors import InvalidInputError

JOBS_FOLDER = Path(__file__).resolve().parents[1]
LOCAL_ADDRESS = "127.0.0.1"
OWN_PACKAGES = sysconfig.get_path("purelib")

FOREIGN = (
    "_JAVA_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "PYSPARK_DRIVER_PYTHON",
    "PYSPARK_PYTHON",
    "SPARK_CONF_DIR",
    "SPARK_HOME",
)
"""Variables that lead to another Spark or Python, or change every Java."""

OWN = {"PYTHONUTF8": "1", "KERAS_BACKEND": "tensorflow", "MPLBACKEND": "agg"}
"""What every job sets, whatever the user's notebooks have."""

VECTORS = "--xla_cpu_prefer_vector_width"
"""XLA's own choice is 256 bits; 512, where the CPU has them, train an LSTM a tenth faster."""


def enter() -> None:
    """Give this process what every job needs, before it imports what reads it.

    Where names of files are not UTF-8 in this Python, it starts anew.

    Raises:
        InvalidInputError: There is nowhere to write to.
    """
    is_last_try = os.environ.get("PYTHONUTF8") == "1"
    os.environ.update(job_variables(os.environ))
    if sys.getfilesystemencoding() != "utf-8" and not is_last_try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def job_variables(given: Mapping[str, str]) -> dict[str, str]:
    """Variables that every job needs on top of those that its process was started with.

    Raises:
        InvalidInputError: There is nowhere to write to.
    """
    locale = given.get("LC_ALL") or given.get("LC_CTYPE") or given.get("LANG") or ""
    is_utf8 = re.search("utf-?8", locale, re.IGNORECASE)
    return {**OWN, **({} if is_utf8 else {"LC_ALL": "C.UTF-8"}), **_vectors(given), **_folders(given), **_name(given)}


def has_name() -> bool:
    """Whether this machine knows the user's name. A container's may be a bare number."""
    try:
        return bool(pwd.getpwuid(os.geteuid()))
    except KeyError:
        return False


def is_submitted(given: Mapping[str, str]) -> bool:
    """Whether ``spark-submit`` has started this process."""
    return "PYSPARK_GATEWAY_PORT" in given


def runs_here(master: str | None, given: Mapping[str, str]) -> bool:
    """Whether a Spark job that plain Python starts runs on this machine alone.

    Args:
        master: Its Spark master, or None for that of ``PYSPARK_SUBMIT_ARGS``, which may name none either.
        given: The environment that the process was started with.
    """
    submitted = re.search(r"(?:--master[ =]\s*|spark\.master=)[\"']?(\S+)", given.get("PYSPARK_SUBMIT_ARGS", ""))
    return (master or (submitted[1] if submitted else "local")).startswith("local")


def own_environment(given: Mapping[str, str], is_local: bool) -> dict[str, str]:
    """The environment of a Spark job, but for its Java.

    Args:
        given: The environment that the process was started with.
        is_local: Whether the job runs on this machine alone, which then need not know its own name.

    Returns:
        All variables that the job has. Those of :data:`FOREIGN` are left out or have values of our own, unless
        ``spark-submit`` has started the process.

    Raises:
        InvalidInputError: There is nowhere to write to.
    """
    path = _python_path(given)
    path = path if is_submitted(given) else without_others(path, path)
    path = path if str(JOBS_FOLDER) in path else [str(JOBS_FOLDER), *path]
    shared = {"OMP_NUM_THREADS": "1", **given, **job_variables(given), "PYTHONPATH": os.pathsep.join(path)}
    if is_submitted(given):
        return {"PYSPARK_PYTHON": sys.executable, **shared}
    spark = importlib.util.find_spec("pyspark")
    home = Path(spark.origin).parent if spark is not None and spark.origin else None
    return {
        **{name: value for name, value in shared.items() if name not in FOREIGN},
        **({} if home is None else {"SPARK_HOME": str(home), "SPARK_CONF_DIR": str(home / "conf")}),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        **({"SPARK_LOCAL_IP": LOCAL_ADDRESS} if is_local else {}),
    }


def ignored(given: Mapping[str, str], made: Mapping[str, str]) -> list[str]:
    """Names of the foreign variables whose values the job does not take over, in order."""
    names = [name for name in FOREIGN if given.get(name) and given[name] != made.get(name)]
    return names if set(_python_path(given)) <= set(_python_path(made)) else [*names, "PYTHONPATH"]


def prefer_own_packages() -> None:
    """Let this process import what its environment holds, rather than what a shell's ``PYTHONPATH`` leads to."""
    if not is_submitted(os.environ):
        sys.path[:] = without_others(sys.path, _python_path(os.environ))


def without_others(path: Sequence[str], python_path: Sequence[str]) -> list[str]:
    """Python's search path without those places of ``PYTHONPATH`` that hold another copy of a package of our own.

    Such as another Spark's ``python/``, or all packages of a release that a shell has set up, for another Python.
    """
    own = _packages(OWN_PACKAGES) - {"__pycache__"}
    others = {os.path.realpath(each) for each in python_path if own & _packages(each)} - {
        os.path.realpath(OWN_PACKAGES)
    }
    return [each for each in path if os.path.realpath(each) not in others]


def _packages(place: str) -> set[str]:
    """Names of what can be imported from a folder, or from an archive as Spark has them: ``py4j-0.10.9-src.zip``."""
    return {*os.listdir(place)} if os.path.isdir(place) else {Path(place).name.partition("-")[0]}


def _python_path(given: Mapping[str, str]) -> list[str]:
    return list(filter(None, given.get("PYTHONPATH", "").split(os.pathsep)))


def _vectors(given: Mapping[str, str]) -> dict[str, str]:
    flags = given.get("XLA_FLAGS", "")
    return {"XLA_FLAGS": flags if VECTORS in flags else f"{flags} {VECTORS}=512".lstrip()}


def _folders(given: Mapping[str, str]) -> dict[str, str]:
    """Where libraries keep what they compile, and their settings: in the user's home, if that can be written to.

    Keras has settings of its own: the user's may give numbers another precision.
    """
    home = _home(given)
    chosen = given.get("XDG_CACHE_HOME") or f"{home}/.cache"
    cache = chosen if _may_write(chosen) else _private_folder()
    made = {"KERAS_HOME": f"{cache}/toposieve-keras"}
    if cache == chosen and _may_write(home):
        return made
    return {**made, "XDG_CACHE_HOME": cache, "MPLCONFIGDIR": given.get("MPLCONFIGDIR") or f"{cache}/matplotlib"}


def _name(given: Mapping[str, str]) -> dict[str, str]:
    """Python and Spark ask for the user's name, and Java's Spark for a home that goes with it."""
    if has_name():
        return {}
    name = given.get("USER") or f"user{os.geteuid()}"
    home = _home(given) if _may_write(_home(given)) else _private_folder()
    options = given.get("SPARK_SUBMIT_OPTS", "")
    ours = "" if "-Duser.home=" in options else f'-Duser.home="{home}" '
    return {"USER": name, "SPARK_USER": name, "SPARK_SUBMIT_OPTS": f"{ours}{options}".strip()}


def _home(given: Mapping[str, str]) -> str:
    return given.get("HOME") or os.path.expanduser("~")


def _may_write(folder: str) -> bool:
    """Whether one may write to a folder, or make it."""
    path = Path(folder)
    there = next((each for each in (path, *path.parents) if path.is_absolute() and os.path.exists(each)), None)
    return there is not None and os.access(there, os.W_OK | os.X_OK)


def _private_folder() -> str:
    """A folder that this user alone may write to, the same in each job: what it holds will be run."""
    try:
        folder = Path(tempfile.gettempdir()) / f"toposieve-{os.geteuid()}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise InvalidInputError(f"there is no folder for temporary files ({error}): set TMPDIR to one") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise InvalidInputError(f"{folder} is not a folder of yours alone: remove it, or set TMPDIR to another place")
    return str(folder)
