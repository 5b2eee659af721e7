"""spark-submit in cluster mode from a pod of Airflow's image, as an Airflow task runs it."""

import re

from kubernetes.client.exceptions import ApiException

from support.charts import RELEASE
from support.cluster import Done, Namespace, image

SUBMIT = "/opt/toposieve/.venv-jobs/bin/spark-submit"
SUBMITTER = "submitter"
TEMPLATE = "/tmp/pod.yaml"


def submit(namespace: Namespace, *job: str, **conf: str) -> Done:
    """Run a job in cluster mode; what it gives is spark-submit's."""
    settings = {
        "spark.kubernetes.namespace": namespace.name,
        "spark.kubernetes.container.image": image("spark"),
        "spark.kubernetes.authenticate.driver.serviceAccountName": f"{RELEASE}-spark",
        "spark.kubernetes.driver.podTemplateFile": TEMPLATE,
        "spark.kubernetes.executor.podTemplateFile": TEMPLATE,
        "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",
        "spark.kubernetes.driver.request.cores": "100m",
        "spark.kubernetes.executor.request.cores": "100m",
        "spark.driver.memory": "512m",
        "spark.executor.memory": "512m",
        "spark.executor.instances": "1",
        **conf,
    }
    options = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    command = [SUBMIT, "--master", "k8s://https://kubernetes.default.svc", "--deploy-mode", "cluster", "--name", "job"]
    return namespace.execute(SUBMITTER, *command, *options, *job)


def driver_log(namespace: Namespace, done: Done) -> str:
    """The log of the driver that spark-submit has started; empty if it did not come so far."""
    name = re.search(r"pod name: (\S+)", done.output)
    return pod_log(namespace, name[1]) if name else ""


def pod_log(namespace: Namespace, name: str) -> str:
    """A pod's log; empty as long as there is none."""
    try:
        return str(namespace.core.read_namespaced_pod_log(name, namespace.name))
    except ApiException:
        return ""
