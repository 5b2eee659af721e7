import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import yaml
from airflow.providers.cncf.kubernetes.secret import Secret
from kubernetes.client import models as k8s

from support.airflow_environment import CONFIG_FOLDER
from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.kubernetes.api.ownership import (
    DIGEST_LABEL,
    INSTANCE_LABEL,
    owner_of,
    run_selector,
    task_selector,
)
from toposieve_airflow.kubernetes.gang.manifests import (
    GANG_LABEL,
    GPU,
    QUEUE_LABEL,
    job_manifest,
    next_name,
    service_manifest,
)
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator

CPU = {"workers": 2, "container_resources": k8s.V1ResourceRequirements(limits={"cpu": "4", "memory": "8Gi"})}
GPUS = {**CPU, "accelerator": "gpu", "accelerator_count": 2, "runtime_class_name": "nvidia"}
THEIRS = {INSTANCE_LABEL: "theirs"}
QUEUE = {**CPU, "gang_queue": "training", "priority_class_name": "toposieve-training"}


def manifests(try_number: int = 1, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Job and Service of an operator with these options."""
    operator = TFSpawnerOperator(
        **{
            "task_id": "train",
            "pod_template_file": str(CONFIG_FOLDER / "gang-pod.yaml"),
            "image": "toposieve-training:1",
            "namespace": "toposieve",
            "cmds": ["python", "/opt/toposieve/jobs/train.py"],
            "arguments": ["--model", "hlf"],
            **options,
        }
    )
    pod, gang = operator.pod_and_gang(TaskInstance(try_number=try_number).context())
    return job_manifest(pod, gang), service_manifest(gang, "0000-1111")


def environment(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value") or variable["valueFrom"] for variable in container["env"]}


@pytest.mark.parametrize(("name", "options"), [("cpu", CPU), ("gpu", GPUS), ("queue", QUEUE)])
def test_golden(name: str, options: dict[str, Any], check_golden: Callable[[str, str], None]) -> None:
    check_golden(f"gang_{name}.yaml", yaml.safe_dump_all(manifests(**options)))


def test_pods_learn_their_index_and_each_others_names_without_code_of_their_own() -> None:
    job, service = manifests(workers=3)
    variables = environment(job)
    for index in range(3):
        config = json.loads(variables["TF_CONFIG"].replace("$(WORKER_INDEX)", str(index)))
        assert config["task"] == {"type": "worker", "index": index}
    names = [address.split(":")[0] for address in config["cluster"]["worker"]]
    assert names == [f"{job['metadata']['name']}-{index}.{service['metadata']['name']}" for index in range(3)]
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert list(variables).index("WORKER_INDEX") < list(variables).index("TF_CONFIG")


def test_pods_of_the_next_try_know_that_they_are_of_the_same_task() -> None:
    tries = [environment(manifests(try_number=number)[0])["TOPOSIEVE_TASK"] for number in (1, 2)]
    assert tries == ["train-699fcf70"] * 2


def test_service_finds_the_pods_and_goes_with_the_job() -> None:
    job, service = manifests(workers=2)
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert [(owner["name"], owner["uid"]) for owner in service["metadata"]["ownerReferences"]] == [
        (job["metadata"]["name"], "0000-1111")
    ]


def test_one_worker_gets_no_tf_config() -> None:
    assert "TF_CONFIG" not in environment(manifests(workers=1)[0])


def test_what_the_task_says_wins_over_the_pod_file() -> None:
    job, _ = manifests(
        automount_service_account_token=True,
        security_context={"runAsUser": 4000},
        tolerations=[k8s.V1Toleration(key="reserved", operator="Exists")],
        env_vars={"HOME": "/home/me"},
    )
    spec = job["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is True
    assert spec["securityContext"] == {"runAsUser": 4000}
    assert spec["tolerations"] == [{"key": "reserved", "operator": "Exists"}]
    assert environment(job)["HOME"] == "/home/me"


def test_a_task_needs_no_pod_file_and_what_it_does_not_say_is_not_there() -> None:
    job, _ = manifests(workers=1, pod_template_file=None)
    assert job["spec"]["template"]["spec"].keys() == {"containers", "hostNetwork", "restartPolicy", "subdomain"}


def test_only_the_container_that_trains_gets_gpus_and_a_pod_that_has_its_own_keeps_them() -> None:
    mine = {"name": "base", "resources": {"limits": {GPU: "4"}}}
    pod = {"spec": {"containers": [mine, {"name": "sidecar"}], "tolerations": [{"key": GPU, "value": "a"}]}}
    (spec,) = [job["spec"]["template"]["spec"] for job in manifests(**accelerated(pod))[:1]]
    assert [each.get("resources") for each in spec["containers"]] == [{"limits": {GPU: "4"}}, None]
    assert spec["tolerations"] == [{"key": GPU, "value": "a"}]


def accelerated(pod: dict[str, Any]) -> dict[str, Any]:
    """Options of a gang on GPUs that is made from a pod."""
    return {"pod_template_file": None, "pod_template_dict": pod, "accelerator": "gpu"}


def test_the_queue_may_be_said_as_kueue_says_it_and_is_the_jobs() -> None:
    job, _ = manifests(labels={QUEUE_LABEL: "training"})
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"][QUEUE_LABEL] == "training"
    assert QUEUE_LABEL not in job["spec"]["template"]["metadata"]["labels"]


def test_run_limit_falls_back_to_the_tasks_and_the_jobs_does_not_count_the_start() -> None:
    limit = {"active_deadline_seconds": 60, "startup_timeout_seconds": 100}
    assert manifests(**limit)[0]["spec"]["activeDeadlineSeconds"] == 60 + 125
    assert "activeDeadlineSeconds" not in manifests(**limit)[0]["spec"]["template"]["spec"]
    limit = {"execution_timeout": timedelta(hours=2), "startup_timeout_seconds": 100}
    assert manifests(**limit)[0]["spec"]["activeDeadlineSeconds"] == 7200 + 125


def test_a_gang_that_is_made_anew_has_another_name_and_is_the_same_work() -> None:
    task = TFSpawnerOperator(task_id="train", image="a", namespace="toposieve", workers=2)
    pod, gang = task.pod_and_gang(TaskInstance().context())
    first, again = (job_manifest(pod, replace(gang, name=name)) for name in (gang.name, next_name(gang.name)))
    assert first["metadata"]["name"] != again["metadata"]["name"]
    assert first["metadata"]["labels"][DIGEST_LABEL] == again["metadata"]["labels"][DIGEST_LABEL]


def test_digest_tells_other_work_but_not_other_tries() -> None:
    def digest(**options: Any) -> str:
        return str(manifests(**options)[0]["metadata"]["labels"][DIGEST_LABEL])

    assert digest(workers=2) == digest(workers=2, try_number=2)
    assert len({digest(workers=2), digest(workers=3), digest(workers=2, env_vars={"SEED": "2"})}) == 3


def test_digest_does_not_tell_the_volume_of_a_secret_that_airflow_names_by_chance() -> None:
    def digest(secret: str) -> str:
        secrets = [Secret("volume", "/keys", secret)]
        return str(manifests(secrets=secrets)[0]["metadata"]["labels"][DIGEST_LABEL])

    assert digest("a") == digest("a")
    assert digest("a") != digest("b")


def test_labels_and_annotations_of_the_task_are_on_job_and_pods() -> None:
    job, _ = manifests(labels={"team": "trigger"}, annotations={"note": "a"})
    pods = job["spec"]["template"]["metadata"]
    assert job["metadata"]["labels"]["team"] == pods["labels"]["team"] == "trigger"
    assert job["metadata"]["annotations"]["note"] == "a"
    assert pods["annotations"] == {"note": "a"}
    assert DIGEST_LABEL not in job["spec"]["template"]["metadata"]["labels"]


def test_workers_that_have_ended_are_left_alone_by_airflows_clean_up_of_pods() -> None:
    labels = manifests()[0]["spec"]["template"]["metadata"]["labels"]
    assert not labels.keys() >= {"dag_id", "task_id", "try_number", "airflow_version"}


def test_a_job_says_which_try_answers_for_it() -> None:
    jobs = [manifests(try_number=number)[0] for number in (1, 2)]
    assert [owner_of(job) for job in jobs] == [f"{TaskInstance(try_number=number).id}/{number}" for number in (1, 2)]
    assert owner_of({"metadata": {}}) == ""


def test_another_airflow_finds_none_of_it_and_makes_another_name_for_it() -> None:
    ours, theirs = (manifests(instance=name)[0] for name in ("ours", "theirs"))
    assert ours["metadata"]["name"] != theirs["metadata"]["name"]
    labels = ours["spec"]["template"]["metadata"]["labels"]
    assert ours["metadata"]["labels"][INSTANCE_LABEL] == labels[INSTANCE_LABEL] == "ours"
    task = {key: labels[key] for key in ("dag_id", "run_id", "task_id")}
    for selector in (run_selector(TaskInstance(), "theirs"), task_selector(task | THEIRS)):
        wanted = dict(part.split("=") for part in selector.split(","))
        assert wanted.items() <= theirs["metadata"]["labels"].items()
        assert not wanted.items() <= ours["metadata"]["labels"].items()


def test_selector_of_a_task_finds_every_try() -> None:
    job, _ = manifests(try_number=3)
    labels = job["metadata"]["labels"]
    wanted = dict(
        part.split("=")
        for part in task_selector(TFSpawnerOperator._get_ti_pod_labels(TaskInstance().context())).split(",")
    )
    assert wanted.items() <= labels.items()
    assert "try_number" not in wanted
    assert labels[GANG_LABEL].endswith("-3")
