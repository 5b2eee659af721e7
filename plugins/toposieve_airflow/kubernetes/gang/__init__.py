"""Training gangs on Kubernetes: one Airflow task is one Indexed Job of TensorFlow workers.

``manifests`` and ``diagnosis`` are pure; ``supervision`` follows a gang to its end, by news from ``feed``;
``operator`` is what a DAG uses, ``trigger`` waits for it without a slot.
"""
