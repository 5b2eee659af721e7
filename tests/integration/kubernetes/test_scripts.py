"""Scripts that know nothing of us, as gangs: in a plain image with TensorFlow, or in one that has Python alone."""

import http.server
import re
import threading
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from kubernetes import client
from kubernetes.client import models as k8s

from support.cluster import GONE_S, OURS, image

from .conftest import Namespace, Run, wait_for
from .gang.test_failures import FIRST_WAITS, ONE_FAILS, failed, goes_on

SCRIPTS = Path(__file__).parent / "scripts"
PLAIN = {"image": image("plain"), "startup_timeout_seconds": 120}
WHEEL = "tiny-1.0-py3-none-any.whl"


@pytest.fixture
def make_script(make_run: Callable[..., Run], namespace: Namespace, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Make a task that runs a script, a file or a text; its files on the cluster go with it."""

    def make(script: Path | str, **options: object) -> Run:
        path = tmp_path / "mine.py"
        path.write_text(script if isinstance(script, str) else script.read_text())
        return make_run("", cmds=[], **{"arguments": [], "script": str(path), **options})

    yield make
    wait_for(lambda: not files_of(namespace), seconds=GONE_S)


def files_of(namespace: Namespace) -> list[str]:
    """What gangs take their scripts from."""
    return [f"{kind} {name}" for kind in ("config_map", "secret") for name in namespace.names(kind, OURS)]


def test_workers_of_tensorflow_s_tutorial_find_each_other_and_agree(make_script: Callable[..., Run]) -> None:
    run = make_script(SCRIPTS / "multi_worker.py", arguments=["20"], **PLAIN).start().finish()
    assert run.error is None
    results = [run.worker_lines(worker)[-1] for worker in range(2)]
    assert results == ["2 replicas: 3.00 x + 1.00, loss 0.0000"] * 2


def test_fit_of_the_keras_that_tensorflow_had(make_script: Callable[..., Run]) -> None:
    run = make_script(SCRIPTS / "legacy_keras.py", **PLAIN).start().finish()
    assert run.error is None
    results = [run.worker_lines(worker)[-1].partition(": ") for worker in range(2)]
    assert [each[0] for each in results] == ["worker 0", "worker 1"]
    assert results[0][2] == results[1][2]
    kernel, bias, loss = map(float, re.findall(r"\d+\.\d+", results[0][2]))
    assert (kernel, bias) == (pytest.approx(3, abs=0.1), pytest.approx(1, abs=0.1))
    assert loss < 0.01


def test_a_gang_of_one_has_its_environment_too(make_script: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "env").write_text("COLOUR=blue green\n")
    text = "import os; print(*(os.environ[name] for name in ('WORKER_NUMBER', 'TOT_WORKERS', 'TF_CONFIG', 'COLOUR')))"
    run = make_script(text, workers=1, environment_file=str(tmp_path / "env")).start().finish()
    assert run.error is None
    assert re.fullmatch(r'0 1 {"cluster": .*"index": 0}} blue green', run.lines[-1])


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with the wheel of a package; in a folder below, so that both are an index too."""
    folder = tmp_path / "simple" / "tiny"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("tiny.py", "ANSWER = 42")
        info = {"METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n", "RECORD": ""}
        info["WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        for name, content in info.items():
            wheel.writestr(f"tiny-1.0.dist-info/{name}", content)
    return folder


@pytest.fixture
def index(wheels: Path) -> Iterator[int]:
    """The port of an index that has the package."""

    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(wheels.parents[1]))
    with http.server.ThreadingHTTPServer(("", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


IMPORT = "import os, tiny; print(tiny.ANSWER, os.path.dirname(tiny.__file__))"


def test_requirements_come_from_a_folder_of_wheels(
    make_script: Callable[..., Run], namespace: Namespace, wheels: Path, tmp_path: Path
) -> None:
    content = b64encode((wheels / WHEEL).read_bytes()).decode()
    namespace.core.create_namespaced_config_map(
        namespace.name, {"metadata": {"name": "wheels"}, "binaryData": {WHEEL: content}}
    )
    (tmp_path / "needs.txt").write_text("tiny==1.0\n")
    volume = k8s.V1Volume(name="wheels", config_map=k8s.V1ConfigMapVolumeSource(name="wheels"))
    mount = k8s.V1VolumeMount(name="wheels", mount_path="/wheels")
    options = {"requirements": str(tmp_path / "needs.txt"), "packages": "/wheels", **PLAIN}
    run = make_script(IMPORT, volumes=[volume], volume_mounts=[mount], **options).start().finish()
    assert run.error is None
    assert run.worker_lines(1)[-1] == "42 /tmp/packages"


def test_requirements_come_from_an_index_and_what_it_lacks_is_named(
    make_script: Callable[..., Run], namespace: Namespace, index: int, tmp_path: Path
) -> None:
    host = namespace.host_address()
    (tmp_path / "env").write_text(f"PIP_TRUSTED_HOST={host}\n")
    needs = tmp_path / "needs.txt"
    options = {"packages": f"http://{host}:{index}/simple/", "environment_file": str(tmp_path / "env"), **PLAIN}
    for text, try_number in (("tiny", 1), ("tiny==2.0", 2)):
        needs.write_text(text)
        run = make_script(IMPORT, requirements=str(needs), try_number=try_number, **options).start().finish()
        if try_number == 1:
            assert run.error is None
            assert run.worker_lines(0)[-1] == "42 /tmp/packages"
    assert "No matching distribution found for tiny==2.0" in failed(run, retry=True)


def test_a_script_that_fails_leaves_nothing_and_exit_code_2_may_be_tried_again(
    make_script: Callable[..., Run], namespace: Namespace
) -> None:
    run = make_script(ONE_FAILS.format(how="print('last words'); sys.exit(2)")).start()
    run.wait_for_line("[worker 0] up")
    assert files_of(namespace)
    assert "worker 1 failed with exit code 2: up\nlast words" in failed(run.finish(), retry=True)


def test_a_line_that_looks_like_one_of_our_jobs_means_nothing(make_script: Callable[..., Run]) -> None:
    run = make_script("print('comparison: {no json}'); print('results in /data/models/a/b')").start().finish()
    assert run.error is None
    assert "return_value" not in run.task.xcoms


def test_a_gang_that_loses_its_place_goes_on_as_a_new_one_with_files_of_its_own(
    make_script: Callable[..., Run], namespace: Namespace
) -> None:
    run = make_script(FIRST_WAITS).start()
    name = namespace.pod(0).metadata.name
    run.wait_for_line("[worker 0] up")
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=namespace.name))
    namespace.core.create_namespaced_pod_eviction(name, namespace.name, eviction)
    goes_on(run.finish(), "worker 0 was evicted")


def test_the_next_try_takes_over_a_script_whose_task_has_died(
    make_script: Callable[..., Run], namespace: Namespace
) -> None:
    text = "import time\nfor i in range(20):\n    print('step', i)\n    time.sleep(.5)"
    left = make_script(text, mortal=True).start()
    left.wait_for_line("[worker 1] step 2")
    uid = namespace.pod(1).metadata.uid
    left.die()
    run = make_script(text, try_number=2).start()
    assert namespace.pod(1).metadata.uid == uid
    assert run.finish().error is None
    assert run.worker_lines(1)[-1] == "step 19"
    assert any("taking over gang" in line for line in run.lines)
