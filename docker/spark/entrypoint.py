"""Entry point of the Spark image: what Spark on Kubernetes asks of a container, ``driver`` or ``executor``.

Anything else is run as it is, such as ``spark-submit --version``.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

BACKEND = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
OPTION_PREFIX = "SPARK_JAVA_OPT_"

KERNELS = Path("/opt/toposieve/kernels")
"""What numba has compiled when the image was built; another kind of processor compiles anew."""


def command(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command that the container runs."""
    match arguments:
        case ["driver", *rest]:
            return _driver(rest, environment)
        case ["executor", *_]:
            return _executor(environment)
        case _:
            return list(arguments)


def bring_kernels(kernels: Path, cache: Path) -> None:
    """Put compiled kernels where numba can both read and write them."""
    if kernels.is_dir() and not cache.exists():
        shutil.copytree(kernels, cache)


def _driver(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    address = environment["SPARK_DRIVER_BIND_ADDRESS"]
    return [
        f"{environment['SPARK_HOME']}/bin/spark-submit",
        *("--deploy-mode", "client"),
        *("--conf", f"spark.driver.bindAddress={address}"),
        *("--conf", f"spark.executorEnv.SPARK_DRIVER_POD_IP={address}"),
        *arguments,
    ]


def _executor(environment: Mapping[str, str]) -> list[str]:
    memory = environment["SPARK_EXECUTOR_MEMORY"]
    options = {int(key.removeprefix(OPTION_PREFIX)): key for key in environment if key.startswith(OPTION_PREFIX)}
    home = environment["SPARK_HOME"]
    settings = environment.get("SPARK_CONF_DIR", f"{home}/conf")
    classpath = [settings, environment.get("SPARK_CLASSPATH", ""), f"{home}/jars/*"]
    return [
        f"{environment['JAVA_HOME']}/bin/java",
        *(environment[options[number]] for number in sorted(options)),
        *(f"-Xms{memory}", f"-Xmx{memory}"),
        *("-cp", ":".join(filter(None, classpath))),
        BACKEND,
        *("--driver-url", environment["SPARK_DRIVER_URL"]),
        *("--executor-id", environment["SPARK_EXECUTOR_ID"]),
        *("--cores", environment["SPARK_EXECUTOR_CORES"]),
        *("--app-id", environment["SPARK_APPLICATION_ID"]),
        *("--hostname", environment["SPARK_EXECUTOR_POD_IP"]),
        *("--resourceProfileId", environment["SPARK_RESOURCE_PROFILE_ID"]),
        *("--podName", environment["SPARK_EXECUTOR_POD_NAME"]),
    ]


if __name__ == "__main__":
    bring_kernels(KERNELS, Path(os.environ["NUMBA_CACHE_DIR"]))
    to_run = command(sys.argv[1:], os.environ)
    os.execvp(to_run[0], to_run)
