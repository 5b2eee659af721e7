"""Answers of an API server, written down beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


class Answer:
    """An answer that comes line by line, and may break off with an error."""

    def __init__(self, *lines: str | bytes, error: Exception | None = None) -> None:
        self._lines = [line if isinstance(line, bytes) else line.encode() for line in lines]
        self._error = error
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            yield line + b"\n"
        if self._error is not None:
            raise self._error

    @property
    def data(self) -> bytes:
        if self._error is not None:
            raise self._error
        return b"\n".join(self._lines)

    def close(self) -> None:
        self.closed = True

    def shutdown(self) -> None:
        self.closed = True


class Script:
    """A method of the client that gives these answers in order."""

    def __init__(
        self, answers: Iterable[Answer | Exception], asked: Callable[[int], object] = lambda count: None
    ) -> None:
        self._answers = iter(answers)
        self._asked = asked
        self.options: list[dict[str, Any]] = []

    @property
    def calls(self) -> int:
        return len(self.options)

    def __call__(self, **options: Any) -> Answer:
        self.options.append(options)
        answer = next(self._answers)
        try:
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self._asked(len(self.options))


def listed(*names: str, version: str = "1") -> Answer:
    """The answer to a list call."""
    items = [{"metadata": {"name": name}} for name in names]
    return Answer(json.dumps({"metadata": {"resourceVersion": version}, "items": items}))


def watched(*events: Sequence[str], error: Exception | None = None) -> Answer:
    """The answer to a watch: (what happened, name, version) for each event."""
    lines = [
        json.dumps({"type": kind, "object": {"metadata": {"name": name, "resourceVersion": version}}})
        for kind, name, version in events
    ]
    return Answer(*lines, error=error)
