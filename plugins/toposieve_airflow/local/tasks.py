"""Tasks of the profile ``local``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from toposieve_airflow.local.gang import LocalGangOperator
from toposieve_airflow.local.spark_job import SparkJobOperator
from toposieve_airflow.runs.factory import SCRIPTS, Tasks


class LocalTasks(Tasks):
    """``spark-submit`` and worker processes where the Airflow task runs."""

    spark_operator = SparkJobOperator
    gang_operator = LocalGangOperator

    def spark_options(self, task_id: str) -> dict[str, Any]:
        """Spark's driver on this machine, with the jobs' Python."""
        conf = self.profile.spark.conf
        if "spark.pyspark.python" in conf:  # that of executors elsewhere, which the driver would take too
            conf = {"spark.pyspark.driver.python": str(self.profile.python), **conf}
        return {"application": str(self.profile.jobs / SCRIPTS[task_id]), "conf": conf}

    def gang_options(self, task_id: str) -> dict[str, Any]:
        """Workers as processes, of the environment that the job needs."""
        python = self.profile.firmware_python if task_id == "make_firmware" else self.profile.python
        return {
            "application": str(self.profile.jobs / SCRIPTS[task_id]),
            "jobs": replace(self.jobs, python=str(python)),
        }


TASKS = LocalTasks
