from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.kubernetes.gang.manifests import QUEUE_LABEL, job_manifest
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.kubernetes.tasks import KubernetesTasks
from toposieve_airflow.profile import ProfileError, parse_profile
from toposieve_airflow.runs.params import ConfigurationSchema

PROFILE = yaml.safe_load((CONFIG_FOLDER / "kubernetes.yaml").read_text())
POD = yaml.safe_load((CONFIG_FOLDER / "gang-pod.yaml").read_text())


def tasks(folder: Path, files: dict[str, Any], **changes: Any) -> KubernetesTasks:
    """The tasks of the profile kubernetes; its pods' files are these, in a folder, or else the repository's."""
    values = deepcopy(PROFILE) | changes
    for role, pod in files.items():
        (folder / f"{role}.yaml").write_text(pod if isinstance(pod, str) else yaml.safe_dump(pod))
    beside = {role: f"{role}.yaml" for role in files}
    values["kubernetes"]["pods"] = {r: str(CONFIG_FOLDER / f) for r, f in values["kubernetes"]["pods"].items()} | beside
    return KubernetesTasks(
        parse_profile(values, folder / "profile.yaml", REPOSITORY), ConfigurationSchema.load(CONFIG_FOLDER)
    )


def gang(tasks: KubernetesTasks, task_id: str) -> TFSpawnerOperator:
    step = {"arguments": [], "workers": 2}
    return tasks.gang_operator(**tasks._gang(task_id), step=step)  # type: ignore[return-value]


def pod_spec(operator: TFSpawnerOperator) -> dict[str, Any]:
    job = job_manifest(*operator.pod_and_gang(TaskInstance().context()))
    return job["spec"]["template"]["spec"]


def pod(labels: dict[str, str] | None = None, container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """The pod of gangs with these changes."""
    changed = deepcopy(POD) | {"metadata": {"labels": labels or {}}}
    changed["spec"] |= spec
    changed["spec"]["containers"][0] |= container or {}
    return changed


@pytest.mark.parametrize(("labels", "waits_in_the_triggerer"), [({}, False), ({QUEUE_LABEL: "training"}, True)])
def test_gangs_in_a_queue_take_no_worker_of_airflow(
    tmp_path: Path, labels: dict[str, str], waits_in_the_triggerer: bool
) -> None:
    operator = gang(tasks(tmp_path, {"gang": pod(labels)}), "train")
    assert operator.deferrable is waits_in_the_triggerer
    assert operator.pod_and_gang(TaskInstance().context())[1].queue == labels.get(QUEUE_LABEL)


def test_a_worker_is_what_the_file_says_and_the_evaluation_what_its_own_says(tmp_path: Path) -> None:
    gpus = {"requests": {"cpu": "2"}, "limits": {"nvidia.com/mig-1g.10gb": "1"}}
    tolerations = [{"key": "reserved", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 7}]
    said = {"runtimeClassName": "nvidia", "nodeSelector": {"pool": "gpu"}, "tolerations": tolerations}
    made = tasks(tmp_path, {"gang": pod(container={"resources": gpus}, **said)})
    worker, evaluation = (pod_spec(gang(made, task_id)) for task_id in ("train", "evaluate"))
    assert {key: worker[key] for key in said} == said
    assert worker["containers"][0]["resources"] == gpus
    assert evaluation == pod_spec(gang(tasks(tmp_path, {}), "train")) | {"containers": evaluation["containers"]}
    assert evaluation["containers"][0]["resources"] == POD["spec"]["containers"][0]["resources"]


def test_an_image_of_the_file_wins(tmp_path: Path) -> None:
    made = tasks(tmp_path, {"gang": pod(container={"image": "mine", "imagePullPolicy": "Always"})})
    for task_id, expected in (("train", ("mine", "Always")), ("evaluate", ("localhost/toposieve-training:1", None))):
        container = pod_spec(gang(made, task_id))["containers"][0]
        assert container["image"] == expected[0]
        assert expected[1] in (None, container["imagePullPolicy"])


def test_the_export_has_the_image_that_can_write_portable_models(tmp_path: Path) -> None:
    made = tasks(tmp_path, {"evaluation": pod(container={"image": "mine"})})
    images = [pod_spec(gang(made, task_id))["containers"][0]["image"] for task_id in ("publish", "export")]
    assert images == ["mine", "localhost/toposieve-spark:1"]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (pod(tolerationz=[]), r"spec.tolerationz: Kubernetes knows no such key"),
        (pod(container={"env": [{"name": "a", "valu": "b"}]}), r"spec.containers.0.env.0.valu: Kubernetes knows"),
        (pod(container={"name": "main"}), r"name is main: the first container trains, call it base"),
        (
            pod(subdomain="a", container={"command": ["b"]}),
            r"spec.containers.0.command, spec.subdomain: a gang has its",
        ),
        ({"spec": {"containers": []}}, "not a Pod with a container"),
        ({"spec": {"containers": [{"image": "a"}]}}, "not a Pod with a container"),
        ("[", "not valid YAML"),
        ("just words", "not a Pod with a container"),
    ],
    ids=str,
)
def test_a_file_that_would_not_be_followed_is_refused(tmp_path: Path, file: Any, message: str) -> None:
    with pytest.raises(ProfileError, match=rf"gang.yaml: .*{message}"):
        gang(tasks(tmp_path, {"gang": file}), "train")


def test_a_misspelt_key_of_spark_s_file_and_a_file_that_is_not_there_are_named(tmp_path: Path) -> None:
    made = tasks(tmp_path, {"spark": {"spec": {"containers": [{"name": "spark"}], "tolerationz": []}}})
    with pytest.raises(ProfileError, match=r"spark.yaml: spec.tolerationz: Kubernetes knows no such key"):
        made.spark_options("ingest")
    (tmp_path / "spark.yaml").unlink()
    with pytest.raises(ProfileError, match=r"spark.yaml, which kubernetes.pods of the profile names: No such file"):
        made.spark_options("ingest")


READ_ONLY = {"name": "base", "readOnly": True}


@pytest.mark.parametrize(
    ("raw", "read_only"),
    [
        (None, {"mountPath": "/data/raw", "subPath": "raw"}),
        ("/data/of/all", {"mountPath": "/data/of/all", "subPath": "of/all"}),
        ("/data", None),
        ("/elsewhere", None),
        ("root://eos//raw", None),
    ],
)
def test_raw_data_on_the_claim_can_be_written_by_simulation_alone(
    tmp_path: Path, raw: str | None, read_only: dict[str, str] | None
) -> None:
    made = tasks(tmp_path, {}, raw=raw)
    whole = {"name": "base", "mountPath": "/data"}
    mounts = [each for each in pod_spec(gang(made, "train"))["containers"][0]["volumeMounts"] if each["name"] == "base"]
    assert mounts == [whole, *([READ_ONLY | read_only] if read_only else [])]
    for role in ("driver", "executor"):
        assert mounted(made, "simulate", role) == {"base.mount.path": "/data", "base.options.claimName": CLAIM}
        expected = {
            "raw.options.claimName": CLAIM,
            "raw.mount.path": (read_only or {}).get("mountPath"),
            "raw.mount.subPath": (read_only or {}).get("subPath"),
            "raw.mount.readOnly": "true",
        }
        assert mounted(made, "ingest", role) == mounted(made, "simulate", role) | (expected if read_only else {})


CLAIM = PROFILE["kubernetes"]["claim"]


def mounted(tasks: KubernetesTasks, task_id: str, role: str) -> dict[str, str]:
    """What Spark is told of the volumes of its pods."""
    start = f"spark.kubernetes.{role}.volumes.persistentVolumeClaim."
    conf = tasks.spark_options(task_id)["conf"]
    return {key.removeprefix(start): value for key, value in conf.items() if key.startswith(start)}


@pytest.mark.parametrize("key", ["securityContext", "tolerations", "volumes"])
def test_spark_s_pods_and_workers_are_alike(key: str) -> None:
    spark = yaml.safe_load((CONFIG_FOLDER / "spark-pod.yaml").read_text())
    assert spark["spec"][key] == POD["spec"][key]
    for each in ("securityContext", "volumeMounts"):
        assert spark["spec"]["containers"][0][each] == POD["spec"]["containers"][0][each]
