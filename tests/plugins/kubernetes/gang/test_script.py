import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from support.airflow_environment import CONFIG_FOLDER
from support.kubernetes_gangs import TaskInstance, condition, job, pod, terminated
from toposieve_airflow.kubernetes.gang.diagnosis import State, failure_of
from toposieve_airflow.kubernetes.gang.manifests import DIGEST_LABEL, job_manifest, script_manifests
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.kubernetes.gang.trigger import as_trigger
from toposieve_airflow.runs.script import MOST_BYTES

SCRIPT = "print('up')\n"
SECRET = "marker91ab"


def spawner(script: str, **options: Any) -> TFSpawnerOperator:
    settings = {"task_id": "train", "namespace": "toposieve", "image": "plain", "arguments": ["--epochs", "2"]}
    pod = {"pod_template_file": str(CONFIG_FOLDER / "gang-pod.yaml")}
    return TFSpawnerOperator(**{**settings, **pod, "script": script, **options})


def manifests(operator: TFSpawnerOperator) -> list[dict[str, Any]]:
    """The Job, and what it owns of the script's."""
    pod, gang = operator.pod_and_gang(TaskInstance().context())
    script = operator._read_script()
    assert script is not None
    return [job_manifest(pod, gang, script), *script_manifests(gang, "0000-1111", script)]


def container(job: dict[str, Any]) -> dict[str, Any]:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_golden(write: Callable[..., str], check_golden: Callable[[str, str], None]) -> None:
    files = {"environment_file": write("SEED=1\n", "env"), "requirements": write("awkward\n", "needs.txt")}
    made = manifests(spawner(write(SCRIPT), workers=2, packages="/data/wheels", **files))
    check_golden("gang_script.yaml", yaml.safe_dump_all(made))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_script_knows_its_number_and_its_gang_however_small(write: Callable[..., str], workers: int) -> None:
    made = manifests(spawner(write(SCRIPT), workers=workers))[0]
    variables = {each["name"]: each for each in container(made)["env"]}
    label = "metadata.labels['batch.kubernetes.io/job-completion-index']"
    assert variables["WORKER_NUMBER"]["valueFrom"]["fieldRef"]["fieldPath"] == label
    assert variables["TOT_WORKERS"]["value"] == str(workers)
    config = json.loads(variables["TF_CONFIG"]["value"].replace("$(WORKER_NUMBER)", "0"))
    assert len(config["cluster"]["worker"]) == workers
    assert list(variables).index("WORKER_NUMBER") < list(variables).index("TF_CONFIG")
    assert "WORKER_INDEX" not in variables


@pytest.mark.parametrize(
    ("packages", "options"),
    [
        (None, ["python3", "-m", "pip"]),
        ("https://index/simple", ["--index-url", "https://index/simple"]),
        ("/data/my wheels", ["--no-index", "--find-links", "/data/my wheels"]),
    ],
)
def test_requirements_are_installed_before_the_script_starts(
    write: Callable[..., str], tmp_path: Path, packages: str | None, options: list[str]
) -> None:
    """Run by a shell, with a python3 that says what it is given."""
    made = manifests(spawner(write(SCRIPT), requirements=write("awkward", "needs.txt"), packages=packages))
    program = tmp_path / "bin" / "python3"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ.get('PYTHONPATH')]))\n"
    )
    program.chmod(0o755)
    command = [*container(made[0])["command"], *container(made[0])["args"]]
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "PYTHONPATH": "/image"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (pip, before), (run, path) = map(json.loads, done.stdout.splitlines())
    assert options == ["python3", *pip][: len(options)] or options == pip[-len(options) :]
    assert run == ["-u", "/etc/toposieve/script/script.py", "--epochs", "2"]
    assert (before, path) == ("/image", "/tmp/packages:/image")


def test_without_requirements_nothing_but_python_is_needed(write: Callable[..., str]) -> None:
    made = manifests(spawner(write(SCRIPT)))
    assert container(made[0])["command"] == ["python3", "-u", "/etc/toposieve/script/script.py"]
    assert [each["kind"] for each in made] == ["Job", "ConfigMap"]


def test_variables_are_in_the_secret_and_nowhere_else(write: Callable[..., str]) -> None:
    environment = write(f"# ours\n\nTOKEN={SECRET}\nEMPTY=\nURL=a=b \n", "env")
    operator = spawner(write(SCRIPT), environment_file=environment)
    made, secret, config = manifests(operator)
    assert secret["stringData"] == {"TOKEN": SECRET, "EMPTY": "", "URL": "a=b "}
    assert container(made)["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    _, gang = operator.pod_and_gang(TaskInstance().context())
    trigger = as_trigger(gang, operator._limits(0.0), {}, 1).serialize()
    for shown in (made, config, trigger, operator._read_script()):
        assert SECRET not in repr(shown)


def test_the_script_is_part_of_the_work_and_so_are_its_requirements(write: Callable[..., str]) -> None:
    def digest(text: str, **options: Any) -> str:
        return str(manifests(spawner(write(text), **options))[0]["metadata"]["labels"][DIGEST_LABEL])

    needs = {"requirements": write("awkward", "needs.txt")}
    digests = [digest(SCRIPT), digest("print(2)\n"), digest(SCRIPT, **needs), digest(SCRIPT, packages="/a", **needs)]
    assert len(set(digests)) == 4
    assert digest(SCRIPT) == digests[0]


@pytest.mark.parametrize("script", [True, False])
def test_exit_code_2_means_nothing_special(write: Callable[..., str], script: bool) -> None:
    operator = spawner(write(SCRIPT)) if script else spawner(None, cmds=["a"])  # type: ignore[arg-type]
    _, gang = operator.pod_and_gang(TaskInstance().context())
    pods = {"a": pod(0, terminated(2))}
    state = State(job(condition("FailureTarget")), pods, final_exit_code=gang.final_exit_code)
    failure = failure_of(state, "base")
    assert failure is not None
    assert failure.may_retry is script


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"#" * (MOST_BYTES + 1), "is larger than the 1 MiB that Kubernetes takes"),
        (b"\xff", "is not text in UTF-8"),
    ],
    ids=["none", "large", "binary"],
)
def test_a_script_that_cannot_be_taken_fails_the_task_before_anything_is_made(
    write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    path = str(tmp_path / "none.py") if content is None else write(content)
    monkeypatch.setattr(TFSpawnerOperator, "_cluster", None)  # nobody is asked
    with pytest.raises(AirflowFailException, match=f"script {path}:? {message}"):
        spawner(path).execute(TaskInstance().context())


@pytest.mark.parametrize("options", [{"cmds": ["python"]}, {"step": {"arguments": [], "workers": 1}}])
def test_a_script_is_all_that_is_run(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="train: the script is what is run: leave step and cmds out"):
        spawner("mine.py", **options)
