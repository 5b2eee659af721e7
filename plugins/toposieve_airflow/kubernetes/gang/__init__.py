"""Training gangs on Kubernetes: one Airflow task is one Indexed Job of TensorFlow workers.

``manifests`` is pure; ``feed`` brings news of a gang, by which ``supervision`` follows it to its end; ``operator`` is
what a DAG uses, ``trigger`` waits for it without a slot, ``teardown`` is what a run ends with.
"""
