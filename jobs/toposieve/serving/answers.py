"""What becomes of each message of a batch: a decision, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from toposieve.serving.events import Decision, Event, Refused
from toposieve.serving.following import Model
from toposieve.serving.record import LARGEST_EVENT, LARGEST_EVENT_ID, RecordError, decode_event, encode_decision

KEPT_BYTES = LARGEST_EVENT
"""How much of a message that is no event is kept, and as much of its key as an event's id may have: the brokers take no
larger answers than they are told to. The headers say where all of it is."""
UNSCORED = "not scored"
"""The fault of an event that the scorer refuses."""


class Received(Protocol):
    """A message of Kafka's."""

    def topic(self) -> str | None:
        """Where it was."""
        ...

    def partition(self) -> int | None:
        """Where in the topic."""
        ...

    def offset(self) -> int | None:
        """Where in the partition."""
        ...

    def key(self) -> bytes | None:
        """As its producer chose it."""
        ...

    def value(self) -> bytes | None:
        """An event's record, if all is well."""
        ...


@dataclass(frozen=True)
class Answer:
    """One message to be produced.

    Attributes:
        key: The event's id; of what is no event, the start of the key that it came with.
        value: A decision's record, or the start of what is no event.
        version: Of the model that decided; None if none did.
        fault: What is wrong with the message, of a few; None for a decision.
        headers: What there is to say of a message that is no event.
    """

    key: bytes | None
    value: bytes
    version: int | None = None
    fault: str | None = None
    headers: dict[str, bytes] = field(default_factory=dict)


def answer(messages: Sequence[Received], model: Model) -> list[Answer]:
    """An answer to each message, in their order; they are scored together."""
    read = [_read(message) for message in messages]
    events = [event for event in read if isinstance(event, Event)]
    found = iter(model.score(events) if events else [])
    return [
        _refuse(message, each.fault, str(each)) if isinstance(each, RecordError) else _decided(message, next(found))
        for message, each in zip(messages, read, strict=True)
    ]


def _read(message: Received) -> Event | RecordError:
    try:
        return decode_event(message.value() or b"")
    except RecordError as error:
        return error


def _decided(message: Received, found: Decision | Refused) -> Answer:
    if isinstance(found, Refused):
        return _refuse(message, UNSCORED, found.reason)
    return Answer(found.event_id.encode(), encode_decision(found), version=found.version)


def _refuse(message: Received, fault: str, reason: str) -> Answer:
    key, value = message.key(), message.value() or b""
    headers = {
        "reason": reason,
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "key_bytes": len(key or b""),
        "bytes": len(value),
    }
    encoded = {name: str(each).encode() for name, each in headers.items()}
    return Answer(key and key[:LARGEST_EVENT_ID], value[:KEPT_BYTES], fault=fault, headers=encoded)
