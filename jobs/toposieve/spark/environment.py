"""The one place that makes the environment of a Spark job that plain Python starts.

Under ``spark-submit`` the submitter has made it. ``HADOOP_CONF_DIR`` stays in both cases: it says where YARN and HDFS
are. So do ``SPARK_SUBMIT_OPTS`` and ``PYSPARK_SUBMIT_ARGS``, for options of Java and of Spark. In ``PYTHONPATH`` this
library's folder comes first.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

JOBS_FOLDER = Path(__file__).resolve().parents[2]
LOCAL_ADDRESS = "127.0.0.1"

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


def is_submitted(given: Mapping[str, str]) -> bool:
    """Whether ``spark-submit`` has started this process."""
    return "PYSPARK_GATEWAY_PORT" in given


def own_environment(given: Mapping[str, str], is_local: bool) -> dict[str, str]:
    """The environment of a Spark job, but for its Java.

    Args:
        given: The environment that the process was started with.
        is_local: Whether the job runs on this machine alone, which then need not know its own name.

    Returns:
        All variables that the job has. Those of :data:`FOREIGN` are left out or have values of our own, unless
        ``spark-submit`` has started the process.
    """
    path = given.get("PYTHONPATH", "").split(os.pathsep)
    path = path if str(JOBS_FOLDER) in path else [str(JOBS_FOLDER), *path]
    shared = {"OMP_NUM_THREADS": "1", **given, "PYTHONPATH": os.pathsep.join(filter(None, path))}
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
    return [name for name in FOREIGN if given.get(name) and given[name] != made.get(name)]
