"""Tasks of the profile ``kubernetes``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator
from kubernetes.client import models as k8s

from toposieve_airflow.factory import DOCS, SCRIPTS, Tasks
from toposieve_airflow.profiles import SECRET_FOLDER, Kubernetes
from toposieve_airflow.run_teardown import RunTeardownOperator
from toposieve_airflow.spark_on_kubernetes import SparkOnKubernetesOperator
from toposieve_airflow.tf_spawner.operator import TFSpawnerOperator

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
        }
        for role in ("driver", "executor"):
            conf[f"spark.kubernetes.{role}.podTemplateFile"] = str(pods.spark_pod)
            conf |= {f"spark.kubernetes.{role}.{key}": value for key, value in self._spark_storage().items()}
        return {
            "application": f"local://{JOBS_IN_IMAGES}/{SCRIPTS[task_id]}",
            "conf": {**conf, **self.profile.spark.conf},
            "namespace": pods.namespace,
            "kubernetes_conn_id": pods.connection,
            "startup_timeout_s": pods.spark_startup_timeout_s,
        }

    def _spark_storage(self) -> dict[str, str]:
        """What Spark mounts into a pod, and the variables that it takes from a Secret: names alone, never a value."""
        conf: dict[str, str] = {}
        secret, volume = self.pods.secret, "volumes.persistentVolumeClaim.base"
        if self.pods.claim is not None:
            conf |= {f"{volume}.options.claimName": self.pods.claim, f"{volume}.mount.path": self.profile.base}
        if secret is not None:
            conf[f"secrets.{secret.name}"] = SECRET_FOLDER
            conf |= {f"secretKeyRef.{variable}": f"{secret.name}:{variable}" for variable in secret.variables}
        return conf

    def _gang_storage(self) -> dict[str, Any]:
        """The same for the pods of a gang."""
        volumes, mounts, secret = [], [], self.pods.secret
        if self.pods.claim is not None:
            claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=self.pods.claim)
            volumes.append(k8s.V1Volume(name="base", persistent_volume_claim=claim))
            mounts.append(k8s.V1VolumeMount(name="base", mount_path=self.profile.base))
        if secret is not None:
            volumes.append(k8s.V1Volume(name="store", secret=k8s.V1SecretVolumeSource(secret_name=secret.name)))
            mounts.append(k8s.V1VolumeMount(name="store", mount_path=SECRET_FOLDER, read_only=True))
        return {"volumes": volumes, "volume_mounts": mounts}

    def _gang_variables(self) -> list[k8s.V1EnvVar]:
        """Environment variables of the pods of a gang."""
        # TensorFlow would count the cores of the node.
        own_cores = k8s.V1ResourceFieldSelector(container_name="base", resource="limits.cpu")
        cores = k8s.V1EnvVarSource(resource_field_ref=own_cores)
        variables = [k8s.V1EnvVar(name="TF_NUM_INTRAOP_THREADS", value_from=cores)]
        if (secret := self.pods.secret) is not None:
            for name in secret.variables:
                key = k8s.V1SecretKeySelector(name=secret.name, key=name)
                variables.append(k8s.V1EnvVar(name=name, value_from=k8s.V1EnvVarSource(secret_key_ref=key)))
        return variables

    def gang_options(self, task_id: str) -> dict[str, Any]:
        """Workers as pods, with the volume of all data, if there is one."""
        pods, gang = self.pods, self.pods.gang
        place = gang if task_id == "train" else pods.evaluation
        return {
            "image": pods.images.training,
            "image_pull_policy": pods.images.pull_policy,
            "cmds": ["tini", "--", PYTHON_IN_IMAGES, f"{JOBS_IN_IMAGES}/{SCRIPTS[task_id]}"],
            "namespace": pods.namespace,
            "kubernetes_conn_id": pods.connection,
            "service_account_name": gang.service_account,
            "accelerator": place.accelerator,
            "accelerator_count": place.accelerator_count,
            "runtime_class_name": place.runtime_class,
            "node_selector": place.node_selector,
            "tolerations": [each.model_dump(exclude_none=True) for each in place.tolerations],
            "affinity": place.affinity,
            "gang_queue": gang.queue,
            "gang_url": gang.url,
            # In a queue a gang may wait for hours: let it take no worker of Airflow meanwhile.
            **({"deferrable": True} if gang.queue else {}),
            "priority_class_name": gang.priority_class,
            "container_resources": k8s.V1ResourceRequirements(requests=gang.requests, limits=gang.limits),
            **self._gang_storage(),
            "env_vars": self._gang_variables(),
            "startup_timeout_seconds": self.profile.training.startup_timeout_s,
            "retry_exponential_backoff": 2,
        }

    def clean_up(self) -> BaseOperator:
        """Removes the run's pods, by label: a task whose process died leaves its pods behind."""
        clean_up = RunTeardownOperator(
            task_id="clean_up",
            doc_md=DOCS["clean_up"],
            namespace=self.pods.namespace,
            kubernetes_conn_id=self.pods.connection,
            execution_timeout=timedelta(minutes=self.profile.timeouts_min.plan),
        )
        clean_up.as_teardown()
        return clean_up


TASKS = KubernetesTasks
