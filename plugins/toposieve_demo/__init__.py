"""A whole Airflow on this machine, with its home inside the repository: for the demo, for tests and to look around."""
