"""Assets: what a successful run of a DAG announces to others."""

from __future__ import annotations

from airflow.sdk import Asset

EVENTS = Asset(name="toposieve_events", uri="toposieve://events")
"""Ingested events of one partition. Only ``build_dataset`` announces it."""

SELECTED = Asset(name="toposieve_selected", uri="toposieve://selected")
"""Selected events of one partition. Only ``build_dataset`` announces it."""

DATASET = Asset(name="toposieve_dataset", uri="toposieve://datasets")
"""A training dataset."""

MODEL = Asset(name="toposieve_model", uri="toposieve://models")
"""A trained model."""

REPORT = Asset(name="toposieve_report", uri="toposieve://reports")
"""A report on trained models. Its name is the event's partition key, whichever days, or range of days, it is on.

For a DAG that is scheduled by assets starts for events with a key, or for those without one, and never for both.
"""
