"""Searches for the best configuration of a model, and the tree models that networks are compared with; on Spark."""
