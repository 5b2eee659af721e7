"""Every right of the chart's Roles that Spark uses is needed: without it Spark says which one it lacks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from support.charts import RELEASE
from support.cluster import Namespace, wait_for
from support.releases import without
from support.rights import DRIVER, DRIVER_S_END, SUBMISSION, Right
from support.spark_submission import pod_log, submit

PI = "local:///opt/toposieve/.venv-jobs/site-packages/pyspark/examples/src/main/python/pi.py"


def in_words_of(namespace: Namespace, account: str, missing: Right) -> str:
    user = f"system:serviceaccount:{namespace.name}:{RELEASE}-{account}"
    return f'User "{user}" cannot {missing.verb} resource "{missing.resource}" in API group "{missing.group}"'


@pytest.mark.parametrize("missing", SUBMISSION, ids=str)
def test_each_right_is_missed_by_spark_submit_by_name(submitter, missing):
    with without(submitter, "runner", missing):
        output = submit(submitter, PI, "1").output
    assert in_words_of(submitter, "runner", missing) in output, output


@pytest.mark.parametrize(
    "missing", [*([right] for right in DRIVER), DRIVER_S_END], ids=lambda rights: "-".join(map(str, rights))
)
def test_each_right_is_missed_by_a_driver_by_name(submitter, missing):
    wanted = [in_words_of(submitter, "spark", right) for right in missing]
    with without(submitter, "spark", *missing), driver(submitter) as log:
        wait_for(lambda: all(words in log() for words in wanted))


@contextmanager
def driver(namespace: Namespace) -> Iterator[Callable[[], str]]:
    """A job's driver, which ends with the block: without a right it may try for long; and what reads its log."""
    name = "driver-without"
    conf = {"spark.kubernetes.driver.pod.name": name, "spark.kubernetes.submission.waitAppCompletion": "false"}
    done = submit(namespace, PI, "1", **conf)
    assert done.code == 0, done.output
    try:
        yield lambda: pod_log(namespace, name)
    finally:
        namespace.core.delete_namespaced_pod(name, namespace.name, grace_period_seconds=0)
        wait_for(lambda: name not in namespace.names("pod"))
