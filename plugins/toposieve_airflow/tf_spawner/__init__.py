"""Training gangs on Kubernetes: one Airflow task is one Indexed Job of TensorFlow workers.

``manifests`` and ``diagnosis`` are pure; ``cluster``, ``watching`` and ``worker_logs`` talk to the API server;
``supervision`` follows a gang to its end; ``operator`` is what a DAG uses, ``teardown`` what it ends with.
"""
