"""Each image as a pod of the restricted level with a read-only root file system, as its own user and as any other."""

import json
import re
from collections.abc import Iterator

import pytest

from support.cluster import POD_SECURITY, Namespace, image, new_namespace, wait_for
from support.repository import REPOSITORY

NAMES = ("airflow", "spark", "training")
USERS = (1000, 12345)
JOBS = "/opt/toposieve/.venv-jobs/bin"

TOOLS = "gcc cc g++ clang make uv git curl wget"
CACHES = "/root/.cache /tmp/.cache /uv /var/cache/apt/archives/*.deb /var/lib/apt/lists/*_Packages*"

KERNEL = "from toposieve.physics.kinematics import delta_phi; print(delta_phi(1.0, 2.0))"

COUNT = """
from toposieve.spark.session import spark_session
with spark_session("count", "local[1]") as session:
    print(session.range(5).count())
"""

PROBE = """CONNECTION_CHECK_MAX_COUNT=0 AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR exec /entrypoint \\
airflow jobs check --job-type SchedulerJob --local"""
"""What the official chart asks a scheduler."""

WORKS = {
    "airflow": [
        ("bash -c 'exec airflow version'", r"^3\.3\."),  # as the official chart starts it
        (f"{JOBS}/spark-submit --version", r"version 4\.3\."),
        (f"{JOBS}/python -m toposieve.check_config --base s3://bucket '{{}}'", ""),
        (f"""{JOBS}/python -m toposieve.check_outputs '{{"outputs": ["/tmp/nowhere"], "config": {{}}}}'""", ""),
        (f"{JOBS}/python -c 'import toposieve.io.store.s3, toposieve.io.store.hdfs'", ""),
        ("python -c 'import toposieve_airflow.runs.factory'", ""),
        ("python -c 'import psycopg2, asyncpg'", ""),
        ("python /opt/toposieve/dags/topology_classifier.py", ""),
    ],
    "spark": [
        ("spark-submit --version", r"version 4\.3\."),
        *(
            (f"python jobs/{job}.py --help", "--base")
            for job in ("simulate", "ingest", "select_events", "prepare_features")
        ),
        ("python -c 'import fastjet, pythia8mc, uproot, toposieve.spark.session'", ""),
        (f"python -c '{COUNT}'", r"^5$"),  # Hadoop asks the system who its user is
        (f"python -c '{KERNEL}' && ls $NUMBA_CACHE_DIR/*/*.nbi", "delta_phi"),
    ],
    "training": [
        ("python jobs/train.py --help", "--dataset"),
        ("python jobs/evaluate.py --help", "--report"),
        ("python -c 'import tensorflow as tf; print(tf.reduce_sum(tf.ones(3)).numpy())'", r"^3\.0"),
        ("python -c 'import matplotlib.pyplot, mplhep, hist'", ""),
        ("tensorboard --version", r"^2\."),
    ],
}
"""Image → commands that must succeed, each with what its output has."""


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with new_namespace("images") as made:
        yield made


@pytest.fixture(scope="module")
def pods(namespace):
    """One pod for every image and user."""
    started = {(name, user): f"{name}-{user}" for name in NAMES for user in USERS}
    for (name, user), pod in started.items():
        namespace.start(pod, image(name), securityContext={**POD_SECURITY, "runAsUser": user, "runAsGroup": user})
    for pod in started.values():
        namespace.wait_until_running(pod)
    return started


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=USERS, ids=["own-user", "any-user"])
def run(request, namespace, pods, name):
    """Run a command in a pod of an image."""
    return lambda *command: namespace.execute(pods[name, request.param], *command)


@pytest.fixture
def shell(run):
    """Run a shell command in a pod of an image."""
    return lambda command: run("sh", "-c", command)


def test_nothing_but_tmp_can_be_written(shell):
    user = shell("id -u").output.strip()
    assert user in map(str, USERS)
    assert shell("touch /opt/toposieve/x").code != 0
    assert shell("touch $HOME/x $TMPDIR/y && rm /tmp/x /tmp/y").code == 0


def test_no_compiler_download_tool_or_cache_is_left(shell):
    assert shell(f"for tool in {TOOLS}; do command -v $tool; done").output == ""
    assert shell(f"ls -d {CACHES} 2>/dev/null").output == ""


def test_it_does_what_it_is_for(shell, name):
    for command, wanted in WORKS[name]:
        done = shell(command)
        assert done.code == 0, f"{command}: {done.output}"
        assert re.search(wanted, done.output, re.MULTILINE), f"{command}: {done.output}"


def test_bytecode_is_there(shell):
    """Pods write none: without it every start would compile all imports anew."""
    check = (
        "import importlib.util as u, os, toposieve.config as ours, pydantic as theirs;"
        "assert all(os.path.exists(u.cache_from_source(each.__file__)) for each in (ours, theirs))"
    )
    done = shell(f'{JOBS}/python -c "{check}"')
    assert done.code == 0, done.output


def test_the_version_is_known_to_the_jobs(shell):
    done = shell(
        f"{JOBS}/python -c 'from toposieve.version import code_version; print(code_version())'; echo $TOPOSIEVE_VERSION"
    )
    said, built = done.output.split()
    assert said == built


def health_command(name: str) -> list[str]:
    dockerfile = (REPOSITORY / f"docker/{name}/Dockerfile").read_text()
    found = re.search(r"HEALTHCHECK.*?CMD (\[.*?\])\n", dockerfile, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_health_command_of_a_job_image(namespace, pods):
    for name in ("spark", "training"):
        done = namespace.execute(pods[name, 1000], *health_command(name))
        assert done.code == 0, done.output


def test_airflow_serves_and_its_health_command_says_so(namespace, pods):
    pod = pods["airflow", 1000]
    probe = ["env", "AIRFLOW_HOME=/tmp/airflow", "sh", "-c", PROBE]
    assert namespace.execute(pod, *health_command("airflow")).code != 0
    assert namespace.execute(pod, *probe).code != 0
    serve = "airflow db migrate && (airflow api-server --workers 1 &) && (airflow scheduler --skip-serve-logs &) "
    in_home = f"(export AIRFLOW_HOME=/tmp/airflow; {serve}) > /tmp/log 2>&1 < /dev/null; tail -3 /tmp/log"
    done = namespace.execute(pod, "sh", "-c", in_home)
    assert done.code == 0, done.output
    wait_for(lambda: namespace.execute(pod, *health_command("airflow")).code == 0)
    wait_for(lambda: namespace.execute(pod, *probe).code == 0)
