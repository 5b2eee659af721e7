"""Spark jobs on Kubernetes: one Airflow task is one driver, which makes its executors."""
