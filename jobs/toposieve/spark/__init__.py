"""Spark: the session, the sink and the tasks that turn Arrow batches into physics and back."""
