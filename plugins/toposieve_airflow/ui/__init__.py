"""Results inside Airflow's UI: a tab on each run, and pages of reports, days, datasets and models."""

REPORT_TAB = "toposieve-report"
"""Name of the tab in the address of a run."""
