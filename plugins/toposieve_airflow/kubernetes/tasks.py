"""Tasks of the profile ``kubernetes``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

from airflow.sdk import BaseOperator, XComArg
from kubernetes.client import models as k8s

from toposieve_airflow.kubernetes.gang.manifests import QUEUE_LABEL
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.kubernetes.pod_files import gang_pod, spark_pod
from toposieve_airflow.kubernetes.spark.operator import SparkOnKubernetesOperator
from toposieve_airflow.kubernetes.teardown import RunTeardownOperator
from toposieve_airflow.profile import SECRET_FOLDER, Kubernetes, Spawn
from toposieve_airflow.runs.factory import DOCS, SCRIPTS, Tasks
from toposieve_airflow.runs.script_plan import PLANNED, ScriptPlanOperator

JOBS_IN_IMAGES = "/opt/toposieve/jobs"
PYTHON_IN_IMAGES = "/opt/toposieve/.venv-jobs/bin/python"


class KubernetesTasks(Tasks):
    """Spark drivers and executors, and workers, as pods."""

    spark_operator = SparkOnKubernetesOperator
    gang_operator = TFSpawnerOperator

    @property
    def pods(self) -> Kubernetes:
        """The profile's part about pods."""
        assert self.profile.kubernetes is not None
        return self.profile.kubernetes

    def spark_options(self, task_id: str) -> dict[str, Any]:
        """Driver and executors as pods, with the volume of all data, if there is one."""
        pods = self.pods
        conf = {
            "spark.kubernetes.namespace": pods.namespace,
            "spark.kubernetes.container.image": pods.images.spark,
            "spark.kubernetes.container.image.pullPolicy": pods.images.pull_policy,
            "spark.pyspark.python": PYTHON_IN_IMAGES,
            "spark.pyspark.driver.python": PYTHON_IN_IMAGES,
            # A driver that ends would delete its claims, for which it needs a right: it has none.
            "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",
        }
        storage = {"podTemplateFile": str(spark_pod(pods.pods.spark)), **self._spark_storage(task_id)}
        for role in ("driver", "executor"):
            conf |= {f"spark.kubernetes.{role}.{key}": value for key, value in storage.items()}
        return {
            "application": f"local://{JOBS_IN_IMAGES}/{SCRIPTS[task_id]}",
            "conf": {**conf, **self.profile.spark.conf},
            "namespace": pods.namespace,
            "kubernetes_conn_id": pods.connection,
            "instance": pods.instance,
            "startup_timeout_s": pods.spark_startup_timeout_s,
        }

    def _mounts(self, task_id: str) -> dict[str, tuple[str, str | None]]:
        """Name → where the claim of all data is mounted, and which folder of it can only be read there.

        Raw data, where it lies on the claim, can be written by simulation alone.
        """
        if self.pods.claim is None:
            return {}
        base = PurePosixPath(self.profile.base)
        raw = base / "raw" if self.profile.raw is None else PurePosixPath(self.profile.raw)
        whole: dict[str, tuple[str, str | None]] = {"base": (str(base), None)}
        if task_id == "simulate" or base not in raw.parents:
            return whole
        return {**whole, "raw": (str(raw), str(raw.relative_to(base)))}

    def _spark_storage(self, task_id: str) -> dict[str, str]:
        """What Spark mounts into a pod, and the variables that it takes from a Secret: names alone, never a value."""
        conf: dict[str, str] = {}
        secret, volumes = self.pods.secret, "volumes.persistentVolumeClaim"
        for name, (path, folder) in self._mounts(task_id).items():
            conf |= {f"{volumes}.{name}.options.claimName": str(self.pods.claim), f"{volumes}.{name}.mount.path": path}
            if folder is not None:
                conf |= {f"{volumes}.{name}.mount.subPath": folder, f"{volumes}.{name}.mount.readOnly": "true"}
        if secret is not None:
            conf[f"secrets.{secret.name}"] = SECRET_FOLDER
            conf |= {f"secretKeyRef.{variable}": f"{secret.name}:{variable}" for variable in secret.variables}
        return conf

    def _gang_storage(self, task_id: str) -> dict[str, Any]:
        """The same for the pods of a gang."""
        volumes, mounts, secret = [], [], self.pods.secret
        if self.pods.claim is not None:
            volumes.append(_base_volume(self.pods.claim))
        for path, folder in self._mounts(task_id).values():
            read_only = None if folder is None else True
            mounts.append(k8s.V1VolumeMount(name="base", mount_path=path, sub_path=folder, read_only=read_only))
        if secret is not None:
            volumes.append(k8s.V1Volume(name="store", secret=k8s.V1SecretVolumeSource(secret_name=secret.name)))
            mounts.append(k8s.V1VolumeMount(name="store", mount_path=SECRET_FOLDER, read_only=True))
        return {"volumes": volumes, "volume_mounts": mounts}

    def _gang_variables(self) -> list[k8s.V1EnvVar]:
        """Environment variables from the Secret of the stores."""
        secret = self.pods.secret
        if secret is None:
            return []
        keys = [k8s.V1SecretKeySelector(name=secret.name, key=name) for name in secret.variables]
        return [k8s.V1EnvVar(name=key.key, value_from=k8s.V1EnvVarSource(secret_key_ref=key)) for key in keys]

    def gang_options(self, task_id: str) -> dict[str, Any]:
        """Workers as pods, with the volume of all data, if there is one."""
        pods = self.pods
        pod = gang_pod(pods.pods.gang if task_id == "train" else pods.pods.evaluation)
        container = pod["spec"]["containers"][0]
        image = container.get("image", pods.images.training)
        return {
            "pod_template_dict": pod,
            "image": pods.images.spark if task_id == "export" else image,  # the other has neither ONNX nor its runtime
            "image_pull_policy": container.get("imagePullPolicy", pods.images.pull_policy),
            "cmds": ["tini", "--", PYTHON_IN_IMAGES, f"{JOBS_IN_IMAGES}/{SCRIPTS[task_id]}"],
            # In a queue a gang may wait for hours: let it take no worker of Airflow meanwhile.
            **({"deferrable": True} if QUEUE_LABEL in pod.get("metadata", {}).get("labels", {}) else {}),
            **self._gang_storage(task_id),
            "env_vars": self._gang_variables(),
            **self._any_gang(),
        }

    def _any_gang(self) -> dict[str, Any]:
        """What gangs have in common, whatever they run."""
        pods = self.pods
        return {
            "namespace": pods.namespace,
            "kubernetes_conn_id": pods.connection,
            "instance": pods.instance,
            "gang_url": pods.gang_url,
            "startup_timeout_seconds": self.profile.training.startup_timeout_s,
            "waiting_timeout": timedelta(hours=pods.gang_waiting_h),
            "retry_exponential_backoff": 2,
        }

    def script(self, plan: ScriptPlanOperator) -> BaseOperator | None:
        """Workers as pods, without our credentials, that see the volume of all data and write to one folder of it."""
        spawn = self.allowed_scripts
        if spawn is None:
            return None
        for path in filter(None, (spawn.pods.cpu, spawn.pods.gpu)):
            gang_pod(path)
        options = {**self._common("train", self.profile.pools.training), **self._any_gang(), "doc_md": DOCS["script"]}
        planned: dict[str, Any] = {key: XComArg(plan, key) for key in PLANNED}
        return TFSpawnerOperator(
            **options,
            **planned,
            packages=spawn.packages,
            image_pull_policy=self.pods.images.pull_policy,
            **self._script_storage(spawn),
        )

    def _script_storage(self, spawn: Spawn) -> dict[str, Any]:
        if self.pods.claim is None:
            return {}
        base = self.profile.base
        mounts = [k8s.V1VolumeMount(name="base", mount_path=base, read_only=True)]
        if spawn.output is not None:
            folder = str(spawn.output.relative_to(base))
            mounts.append(k8s.V1VolumeMount(name="base", mount_path=str(spawn.output), sub_path=folder))
        return {"volumes": [_base_volume(self.pods.claim)], "volume_mounts": mounts}

    def clean_up(self) -> BaseOperator:
        """Removes the run's pods, by label: a task whose process died leaves its pods behind."""
        clean_up = RunTeardownOperator(
            task_id="clean_up",
            doc_md=DOCS["clean_up"],
            namespace=self.pods.namespace,
            kubernetes_conn_id=self.pods.connection,
            instance=self.pods.instance,
            execution_timeout=timedelta(minutes=self.profile.timeouts_min.plan),
        )
        clean_up.as_teardown()
        return clean_up


def _base_volume(claim: str) -> k8s.V1Volume:
    """The volume of all data."""
    source = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=claim)
    return k8s.V1Volume(name="base", persistent_volume_claim=source)


TASKS = KubernetesTasks
