"""The repository's DAG files, imported with the profile that the environment chooses."""

import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING

import support.airflow_environment as environment

if TYPE_CHECKING:  # airflow reads its settings, which the module above makes, when it is imported
    from airflow.sdk import DAG

DAG_IDS = ("topology_classifier", "build_dataset", "simulate_events", "publish_model", "spawn_training")


def import_dag_file(name: str) -> ModuleType:
    """A DAG file as a module, imported anew."""
    spec = importlib.util.spec_from_file_location(name, environment.REPOSITORY / "dags" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_dags() -> "dict[str, DAG]":
    """Every DAG, by its name."""
    return {name: import_dag_file(name).plan.dag for name in DAG_IDS}
