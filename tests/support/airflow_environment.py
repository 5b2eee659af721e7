"""An Airflow for unit tests: a home of its own, made before anything imports airflow. No database, no server."""

import os
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG_FOLDER = REPOSITORY / "dags" / "config"

_HOME = tempfile.TemporaryDirectory(prefix="toposieve-airflow-")
ENVIRONMENT = {
    "AIRFLOW_HOME": _HOME.name,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
    "AIRFLOW__API_AUTH__JWT_SECRET": 64 * "-",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "AIRFLOW_CONN_SPARK_LOCAL": '{"conn_type": "spark", "host": "local[2]"}',
    "AIRFLOW_CONN_SPARK_KUBERNETES": (
        '{"conn_type": "spark", "host": "k8s://https://kubernetes.default.svc", "extra": {"deploy-mode": "cluster"}}'
    ),
}
os.environ.update(ENVIRONMENT)
os.environ.pop("TOPOSIEVE_PROFILE", None)
