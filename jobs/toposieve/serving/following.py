"""The published model, and the next one once it is published: loaded beside the work, taken between two batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Event as Signal
from threading import Thread
from typing import Protocol

from toposieve import registry
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.serving.events import Decision, Event, Refused
from toposieve.serving.metrics import Metrics

logger = logging.getLogger(__name__)


class Model(Protocol):
    """What decides."""

    version: int
    """Its number in the registry."""

    def score(self, events: Sequence[Event]) -> Sequence[Decision | Refused]:
        """An answer to each event, in their order."""
        ...


class FollowedModel:
    """Looks at the registry from time to time, in a thread of its own, while the block runs.

    What cannot be loaded (withdrawn, not exported yet, a store that is away) is said once and tried again; the model in
    use stays.

    Args:
        folder: The registry's folder of a name.
        load: Folder and version → the model, ready to score.
        metrics: Where the versions are shown.
        seconds: Between two looks.

    Raises:
        InvalidInputError: Nothing is published, or it cannot be loaded.
    """

    def __init__(self, folder: Key, load: Callable[[Key, int], Model], metrics: Metrics, seconds: float) -> None:
        """Load what is published now."""
        self._folder, self._load, self._metrics, self._seconds = folder, load, metrics, seconds
        self._ended = Signal()
        self._problem = ""
        self._failure: Exception | None = None
        self._newest = self._taken = load(folder, self._published())
        metrics.serving.set(self._newest.version)

    def __enter__(self) -> FollowedModel:
        """Follow from now on."""
        self._thread = Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._ended.set()
        self._thread.join()

    def take(self) -> Model:
        """The model for the next batch."""
        if self._failure is not None:
            raise self._failure
        newest = self._newest
        if newest is not self._taken:
            logger.info("model: version %d takes over from version %d", newest.version, self._taken.version)
            self._taken = newest
            self._metrics.serving.set(newest.version)
        return newest

    def look(self) -> None:
        """See what is published, and load it if it is another one."""
        try:
            version = self._published()
            if version != self._newest.version:
                self._newest = self._load(self._folder, version)
            self._problem = ""
        except (InvalidInputError, OSError) as error:
            if str(error) != self._problem:
                logger.warning("model: version %d stays in use, for: %s", self._newest.version, error)
            self._problem = str(error)

    def _follow(self) -> None:
        try:
            while not self._ended.wait(self._seconds):
                self.look()
        except Exception as error:  # whoever takes the model next raises it
            self._failure = error

    def _published(self) -> int:
        version = registry.published_version(self._folder)
        self._metrics.published.set(version)
        return version
