"""The one place where a Spark session is made."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from toposieve.environment import LOCAL_ADDRESS, has_name, ignored, is_submitted, own_environment, runs_here
from toposieve.errors import UnavailableError
from toposieve.spark.class_archive import make_java_quick
from toposieve.spark.daemon import MODULES_VARIABLE, task_modules
from toposieve.spark.java import java_home

if TYPE_CHECKING:
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

DEFAULTS: dict[str, str] = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "1000",
    "spark.python.daemon.module": "toposieve.spark.daemon",
    # One thread a task: the cores belong to Spark.
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.executorEnv.NUMBA_NUM_THREADS": "1",
    "spark.ui.showConsoleProgress": "false",
    "spark.ui.enabled": "false",
    "spark.sql.adaptive.enabled": "false",
    "spark.driver.memory": "1g",
    # Arrays of megabytes come and go: to have each from the system, page by page, costs a tenth of a task's time.
    "spark.executorEnv.MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "spark.executorEnv.MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    # Floats hardly shrink: to compress what preparation shuffles costs it a fifth of its time.
    "spark.shuffle.compress": "false",
    # It serves to tell why something cannot be decompressed, and costs a fifth of the JVM's time.
    "spark.shuffle.checksum.enabled": "false",
}
"""Settings that every job has unless ``spark-submit`` says otherwise."""

logger = logging.getLogger(__name__)


@contextmanager
def spark_session(
    name: str, master: str | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[SparkSession]:
    """A Spark session that ends with the block, or the one that is active already, which stays.

    Args:
        name: Application name.
        master: Spark master; None takes ``spark-submit``'s, or ``local[*]`` when run by plain Python.
        settings: What this job needs beside :data:`DEFAULTS`, unless ``spark-submit`` says otherwise.

    Raises:
        InvalidInputError: There is no Java that Spark can use.
        UnavailableError: Spark does not start, which may be for want of memory just now.
    """
    _prepare_environment(is_local=runs_here(master, os.environ))
    from py4j.protocol import Py4JNetworkError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    if is_submitted(os.environ):
        # spark-submit has started Java; only once connected to it does SparkConf know spark-submit's options.
        SparkContext._ensure_initialized()
    active = SparkSession.getActiveSession()
    if active is not None:
        yield active
        return
    conf = SparkConf()
    for key, value in {**DEFAULTS, **(settings or {})}.items():
        conf.setIfMissing(key, value)
    conf.setIfMissing(f"spark.executorEnv.{MODULES_VARIABLE}", task_modules())
    if master is not None:
        conf.setMaster(master)
    conf.setIfMissing("spark.master", "local[*]")
    if runs_here(conf.get("spark.master"), os.environ):
        _keep_to_this_machine(conf)
    _make_event_log_folder(conf)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    try:
        session = SparkSession.builder.config(conf=conf).appName(f"toposieve-{name}").getOrCreate()
    except (ConnectionError, Py4JNetworkError, PySparkRuntimeError):
        raise UnavailableError(
            f"Spark does not start: mend what {os.environ['JAVA_HOME']} says above (often memory, SPARK_LOCAL_DIRS, "
            "SPARK_SUBMIT_OPTS, or PYSPARK_SUBMIT_ARGS, which ends in pyspark-shell)"
        ) from None
    session.sparkContext.setLogLevel("WARN")
    if not has_name():
        _quiet_hadoop(session)
    logger.info("Spark %s on %s", session.version, session.sparkContext.master)
    try:
        yield session
    finally:
        session.stop()


class SparkOnDemand:
    """A session that starts with its first call and ends with the block: a run with nothing to do needs none.

    Args:
        name: Application name.
        master: As for :func:`spark_session`.
    """

    def __init__(self, name: str, master: str | None = None) -> None:
        """Start nothing yet."""
        self._name = name
        self._master = master
        self._session: SparkSession | None = None
        self._exit = ExitStack()

    def __enter__(self) -> SparkOnDemand:
        """Start nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the session, if it was started."""
        self._exit.close()

    def __call__(self) -> SparkSession:
        """The session."""
        if self._session is None:
            self._session = self._exit.enter_context(spark_session(self._name, self._master))
        return self._session


def _prepare_environment(is_local: bool) -> None:
    given = dict(os.environ)
    made = own_environment(given, is_local)
    if names := ignored(given, made):
        logger.info("not taken from the shell: %s; the job uses its own Spark, Python and Java", ", ".join(names))
    for name in given.keys() - made.keys():
        del os.environ[name]
    os.environ.update(made)
    os.environ["JAVA_HOME"] = str(java_home())
    make_java_quick()


def _quiet_hadoop(session: SparkSession) -> None:
    """Hadoop's traces say that the user has no name; a local job does without."""
    jvm: Any = session.sparkContext._jvm
    log4j = jvm.org.apache.logging.log4j
    for name in ("org.apache.hadoop.fs.FileSystem", "org.apache.spark.sql.internal.SharedState"):
        log4j.core.config.Configurator.setLevel(name, log4j.Level.ERROR)


def _make_event_log_folder(conf: SparkConf) -> None:
    """Spark refuses to start when its event log's folder is not there."""
    folder = urlsplit(conf.get("spark.eventLog.dir", "") or "")
    if conf.get("spark.eventLog.enabled", "false") == "true" and folder.path and folder.scheme in ("", "file"):
        Path(folder.path).mkdir(parents=True, exist_ok=True)


def _keep_to_this_machine(conf: SparkConf) -> None:
    conf.setIfMissing("spark.driver.host", LOCAL_ADDRESS)
    conf.setIfMissing("spark.driver.bindAddress", LOCAL_ADDRESS)
    conf.setIfMissing("spark.sql.warehouse.dir", str(Path(tempfile.gettempdir()) / "toposieve-warehouse"))
