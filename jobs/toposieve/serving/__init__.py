"""Decisions of a published model: the scorer, and what feeds it."""
