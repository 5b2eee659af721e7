"""Operators that run a task as pods."""
