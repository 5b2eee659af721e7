"""The Spark image's entry point: what each container runs."""

import importlib.util

import pytest

from support.repository import REPOSITORY

ENVIRONMENT = {
    "SPARK_HOME": "/spark",
    "JAVA_HOME": "/java",
    "SPARK_DRIVER_BIND_ADDRESS": "10.0.0.1",
    "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@driver:7078",
    "SPARK_EXECUTOR_ID": "3",
    "SPARK_EXECUTOR_CORES": "2",
    "SPARK_EXECUTOR_MEMORY": "1024m",
    "SPARK_APPLICATION_ID": "spark-1",
    "SPARK_EXECUTOR_POD_IP": "10.0.0.2",
    "SPARK_RESOURCE_PROFILE_ID": "0",
    "SPARK_EXECUTOR_POD_NAME": "ingest-exec-3",
    "SPARK_CONF_DIR": "/conf",
    # Ten and more: the order is that of numbers, not of text.
    **{f"SPARK_JAVA_OPT_{number}": f"-Doption={number}" for number in range(11)},
}


@pytest.fixture(scope="module")
def entrypoint():
    spec = importlib.util.spec_from_file_location("entrypoint", REPOSITORY / "docker/spark/entrypoint.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_driver_submits_itself_in_client_mode(entrypoint):
    assert entrypoint.command(["driver", "--class", "X", "local:///job.py"], ENVIRONMENT) == [
        "/spark/bin/spark-submit",
        *("--deploy-mode", "client"),
        *("--conf", "spark.driver.bindAddress=10.0.0.1"),
        *("--conf", "spark.executorEnv.SPARK_DRIVER_POD_IP=10.0.0.1"),
        *("--class", "X", "local:///job.py"),
    ]


def test_an_executor_connects_to_its_driver(entrypoint):
    assert entrypoint.command(["executor"], ENVIRONMENT) == [
        "/java/bin/java",
        *(f"-Doption={number}" for number in range(11)),
        *("-Xms1024m", "-Xmx1024m"),
        *("-cp", "/conf:/spark/jars/*"),
        "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend",
        *("--driver-url", "spark://CoarseGrainedScheduler@driver:7078"),
        *("--executor-id", "3"),
        *("--cores", "2"),
        *("--app-id", "spark-1"),
        *("--hostname", "10.0.0.2"),
        *("--resourceProfileId", "0"),
        *("--podName", "ingest-exec-3"),
    ]


@pytest.mark.parametrize("missing", ["SPARK_DRIVER_URL", "SPARK_EXECUTOR_MEMORY"])
def test_an_executor_names_what_its_environment_lacks(entrypoint, missing):
    environment = {key: value for key, value in ENVIRONMENT.items() if key != missing}
    with pytest.raises(KeyError, match=missing):
        entrypoint.command(["executor"], environment)


def test_anything_else_is_run_as_it_is(entrypoint):
    assert entrypoint.command(["spark-submit", "--version"], ENVIRONMENT) == ["spark-submit", "--version"]


def test_compiled_kernels_are_brought_once(entrypoint, tmp_path):
    kernels, cache = tmp_path / "kernels", tmp_path / "cache"
    (kernels / "physics").mkdir(parents=True)
    (kernels / "physics" / "delta_phi.nbc").write_text("compiled")
    entrypoint.bring_kernels(kernels, cache)
    assert (cache / "physics" / "delta_phi.nbc").read_text() == "compiled"
    (cache / "physics" / "delta_phi.nbc").write_text("compiled anew")
    entrypoint.bring_kernels(kernels, cache)
    assert (cache / "physics" / "delta_phi.nbc").read_text() == "compiled anew"
