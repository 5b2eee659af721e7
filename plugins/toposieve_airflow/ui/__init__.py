"""Results inside Airflow's UI: a tab on each run, and pages of reports, days, datasets and models."""
