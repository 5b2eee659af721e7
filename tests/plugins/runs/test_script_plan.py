from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.dags import import_dag_file
from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.kubernetes.gang.manifests import job_manifest
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.profile import PROFILE_VARIABLE, ProfileError, parse_profile
from toposieve_airflow.runs.script import MOST_BYTES

PROFILE = yaml.safe_load((CONFIG_FOLDER / "kubernetes.yaml").read_text())
POD = str(CONFIG_FOLDER / "gang-pod.yaml")
IMAGES = ["localhost/toposieve-plain:1", "tensorflow/tensorflow:2.21.0"]


def spawn(scripts: Path, **changes: Any) -> dict[str, Any]:
    """What a profile allows scripts."""
    pods = {"cpu": POD, "gpu": None}
    return {"images": IMAGES, "scripts": str(scripts), "output": None, "packages": None, "pods": pods, **changes}


def profile(allowed: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    values = deepcopy(PROFILE)
    pods = {role: str(CONFIG_FOLDER / file) for role, file in values["kubernetes"]["pods"].items()}
    values["kubernetes"] |= {"pods": pods, "spawn": allowed, **changes}
    return values


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A folder with a script."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "mine.py").write_text("print('up')\n")
    return folder


@pytest.fixture
def make_dag(tmp_path: Path, scripts: Path, monkeypatch: pytest.MonkeyPatch):
    """Make the DAG under a profile that allows scripts, with these changes; or none."""

    def make(is_allowed: bool = True, **changes: Any) -> DAG:
        values = profile(spawn(scripts, **changes) if is_allowed else None)
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(values))
        monkeypatch.setenv(PROFILE_VARIABLE, str(tmp_path / "profile.yaml"))
        return import_dag_file("spawn_training").plan.dag

    return make


def planned(dag: DAG, **changes: Any) -> dict[str, Any]:
    """What the first task tells the next one."""
    ti = TaskInstance(task_id="plan")
    dag.get_task("plan").execute({"ti": ti, "params": {**dag.params.validate(), "script": "mine.py", **changes}})
    assert None not in ti.xcoms.values()  # Airflow would not find it again
    return ti.xcoms


def trains(dag: DAG, **changes: Any) -> dict[str, Any]:
    """The Job that a run makes."""
    told, operator = planned(dag, **changes), dag.get_task("train")
    ti: Any = SimpleNamespace(xcom_pull=lambda task_ids, key, **_: told[key])
    operator.render_template_fields({"ti": ti})
    assert isinstance(operator, TFSpawnerOperator)
    return job_manifest(*operator.pod_and_gang(TaskInstance().context()), operator._read_script())


def worker(job: dict[str, Any]) -> dict[str, Any]:
    return dict(job["spec"]["template"]["spec"]["containers"][0])


def test_a_run_is_what_its_form_says(make_dag) -> None:
    job = trains(make_dag(), image=IMAGES[1], workers=3, arguments=["--epochs", "2"])
    assert job["spec"]["parallelism"] == 3
    assert worker(job)["image"] == IMAGES[1]
    assert worker(job)["args"] == ["--epochs", "2"]
    assert worker(job)["command"][0] == "python3"


def test_gpus_are_what_their_own_pod_says(make_dag, tmp_path: Path) -> None:
    pod = yaml.safe_load(Path(POD).read_text(encoding="utf-8"))
    pod["spec"]["containers"][0]["resources"]["limits"] = {"nvidia.com/mig-1g.10gb": "1"}
    (tmp_path / "gpu-pod.yaml").write_text(yaml.safe_dump(pod))
    pods = {"cpu": POD, "gpu": "gpu-pod.yaml"}
    workers = [worker(trains(make_dag(pods=pods), accelerator=each)) for each in pods]
    limits = [each["resources"]["limits"] for each in workers]
    assert limits == [{"cpu": "4", "memory": "8Gi"}, {"nvidia.com/mig-1g.10gb": "1"}]


@pytest.mark.parametrize("output", [None, "/data/runs/scripts"])
def test_a_script_writes_to_one_folder_at_most_and_has_no_credentials_of_ours(make_dag, output: str | None) -> None:
    container = worker(trains(make_dag(output=output)))
    mounts = {each["mountPath"]: each for each in container["volumeMounts"] if each["name"] == "base"}
    whole = {"/data": {"name": "base", "mountPath": "/data", "readOnly": True}}
    folder = {"name": "base", "mountPath": output, "subPath": "runs/scripts"}
    assert mounts == (whole if output is None else {**whole, output: folder})
    assert "envFrom" not in container


def test_the_first_image_is_the_form_s_and_no_other_can_be_chosen(make_dag) -> None:
    params = make_dag().params
    assert params["image"] == IMAGES[0]
    assert params.get_param("image").schema["enum"] == IMAGES
    with pytest.raises(ParamValidationError):
        params["image"] = "evil"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"script": "none.py"}, r"script .*none.py: No such file"),
        ({"script": ""}, r"script is empty: name a file in .*scripts"),
        ({"script": "../profile.yaml"}, r"script \.\./profile.yaml is not in .*scripts, where the scripts"),
        ({"script": "link.py"}, r"script link.py is not in .*scripts"),
        ({"script": "large.py"}, r"large.py is larger than the 1 MiB"),
        ({"environment_file": "/etc/passwd"}, r"environment_file /etc/passwd is not in .*scripts"),
        ({"requirements": "none.txt"}, r"requirements .*none.txt: No such file"),
        ({"image": "evil"}, rf"image evil is none that kubernetes.spawn.images allows: {IMAGES[0]}, "),
        ({"workers": 0}, r"workers is 0: it must be 1 or more"),
        ({"accelerator": "gpu"}, r"there is no pod for accelerator gpu: kubernetes.spawn.pods would say"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_anything_starts(
    make_dag, scripts: Path, changes: dict[str, Any], message: str
) -> None:
    (scripts / "link.py").symlink_to("/etc/passwd")
    (scripts / "large.py").write_text("#" * (MOST_BYTES + 1))
    with pytest.raises(AirflowFailException, match=message):
        planned(make_dag(), **changes)


@pytest.mark.parametrize("name", ["local", "kubernetes"])
def test_it_is_off_unless_the_profile_allows_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, name)
    dag = import_dag_file("spawn_training").plan.dag
    assert list(dag.task_dict) == ["plan"]
    with pytest.raises(AirflowFailException, match=r"this deployment runs no scripts: kubernetes.spawn of its profile"):
        planned(dag)


def test_what_a_run_has_made_is_cleaned_up(make_dag) -> None:
    tasks = make_dag().task_dict
    assert tasks["clean_up"].is_teardown
    assert (tasks["train"].upstream_task_ids, tasks["clean_up"].upstream_task_ids) == ({"plan"}, {"train"})


@pytest.mark.parametrize(
    ("allowed", "changes", "message"),
    [
        ({"images": []}, {}, r"kubernetes.spawn.images: .*at least 1"),
        ({"output": "/elsewhere"}, {}, r"spawn.output is /elsewhere: it must be null, or below base"),
        ({"output": "/data"}, {}, r"spawn.output is /data: it must be null, or below base"),
        ({"output": "/data/a"}, {"claim": None}, r"kubernetes.claim None do not go together"),
    ],
)
def test_a_profile_that_allows_nothing_or_too_much_is_refused(
    tmp_path: Path, allowed: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProfileError, match=message):
        parse_profile(profile(spawn(tmp_path, **allowed), **changes), tmp_path / "profile.yaml", REPOSITORY)


def test_a_pod_of_scripts_that_would_not_be_followed_is_refused(make_dag, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("spec: {containers: [{name: base}], tolerationz: []}")
    with pytest.raises(ProfileError, match=r"wrong.yaml: spec.tolerationz: Kubernetes knows no such key"):
        make_dag(pods={"cpu": POD, "gpu": "wrong.yaml"})
