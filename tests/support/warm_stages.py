"""Import this where processes are forked from: it imports what stages need, and compiles or loads their kernels."""

from support.events import random_events, to_events
from toposieve.config import SelectionConfig
from toposieve.io import parquet  # noqa: F401
from toposieve.physics.selection import select_events
from toposieve.spark import ingestion, selection  # noqa: F401

select_events(to_events(random_events(seed=1, n=3, particles=5)), SelectionConfig(), btag_mask=1)
