"""Operators that run a task where Airflow does, as processes of this machine."""
