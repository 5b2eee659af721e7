"""What gangs and Spark jobs both need of Kubernetes, and of Airflow about them."""
