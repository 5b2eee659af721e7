"""Import this where processes are forked from: it imports what stages need, and loads their kernels."""

import ingest  # noqa: F401
import select_events as job  # noqa: F401
from support.events import random_events, to_events
from toposieve.config import SelectionConfig
from toposieve.io import publication, raw, stages  # noqa: F401
from toposieve.physics.selection import select_events
from toposieve.spark import ingestion, selection, session  # noqa: F401
from toposieve.version import code_version

code_version()
select_events(to_events(random_events(seed=1, n=3, particles=5)), SelectionConfig(), btag_mask=1)
