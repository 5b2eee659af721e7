"""The scorer under everything that serves: selected events in, decisions of one model out.

It validates, expands and orders the particles as the training data had them, puts events of like length together, and
asks the model for a few at a time on one thread: several processes are faster than several threads. An event's numbers
are the same bits whatever comes with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.selected import PARTICLE_RECORD
from toposieve.io.store import Key
from toposieve.models import HIGH_LEVEL, PARTICLES
from toposieve.physics.features import sequence_order
from toposieve.physics.scoring import accepted_of
from toposieve.physics.sequences import scaled_features
from toposieve.registry import describe_features
from toposieve.serving.events import Decision, Event, Refused
from toposieve.serving.exports import ONE_BY_ONE, read_portable, units_of

TABLE_EVENTS, PARTICLE_EVENTS = 512, 8
"""Events that a model is asked for at a time: of one that takes high-level features alone, of one with particles."""

_AS_THEY_ARE = np.zeros(len(schema.LOW_LEVEL_FEATURES), np.float32), np.ones(len(schema.LOW_LEVEL_FEATURES), np.float32)
_NOTHING = np.empty((0, 0), np.float32), np.zeros(1, np.int64)

Floats = NDArray[np.float32]


class Scorer:
    """One model, ready to decide.

    Args:
        content: What :func:`toposieve.serving.portable.to_onnx` has written.
        version: The model's number in the registry.
        target: True-positive rate of the working point that decides; None for the highest of the model's.
        name: What errors call the model.
        scaled: Whether events come as an imported dataset has them, not in physical units.

    Raises:
        InvalidInputError: It is no such model, or takes other features than this project makes, or has no such working
            point.
    """

    def __init__(
        self,
        content: bytes,
        version: int,
        target: float | None = None,
        name: str = "the model",
        *,
        scaled: bool = False,
    ) -> None:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            metadata = self._session.get_modelmeta().custom_metadata_map
            said = {key: json.loads(value) for key, value in metadata.items()}
            features, thresholds = said["features"], said["thresholds"]
            self.classes: tuple[str, ...] = tuple(said["classes"])
        except Exception as error:  # onnxruntime's own have no common parent
            raise InvalidInputError(
                f"{name} is no portable model ({str(error).splitlines()[0]}): run export_model.py again"
            ) from None
        self._logits_alone = onnxruntime.RunOptions()
        self._logits_alone.only_execute_path_to_fetches = True
        self.version = version
        self._together = 1 if said.get(ONE_BY_ONE) else PARTICLE_EVENTS
        self.inputs = tuple(features)
        _check_features(name, features, scaled)
        self.target = max(point["target"] for of in thresholds.values() for point in of) if target is None else target
        self._thresholds = np.array([_threshold(name, each, thresholds[each], self.target) for each in self.classes])

    @classmethod
    def load(cls, folder: Key, version: int, target: float | None = None, *, scaled: bool = False) -> Scorer:
        """A version of the registry.

        Args:
            folder: The registry's folder of a name.
            version: Its number.
            target: As of the class.
            scaled: As of the class.

        Raises:
            InvalidInputError: The version is not there or not exported, or as for the class.
        """
        return cls(read_portable(folder, version), version, target, f"version {version} of {folder}", scaled=scaled)

    def score(self, events: Sequence[Event]) -> list[Decision | Refused]:
        """An answer to each event, in their order: a decision, or why it cannot be decided."""
        reasons = [_wrong(event) for event in events]
        if events and not any(reasons):
            return self._decide(events)
        right = [event for event, reason in zip(events, reasons, strict=True) if reason is None]
        decided = iter(self._decide(right) if right else ())
        return [
            next(decided) if reason is None else Refused(event.event_id, reason)
            for event, reason in zip(events, reasons, strict=True)
        ]

    def logits(self, high_level: Floats, particles: Floats, offsets: NDArray[np.int64]) -> Floats:
        """Scores of events whose particles are expanded and in sequence order, (events, classes).

        Args:
            high_level: In physical units, (events, 14).
            particles: In physical units, (particles, 19); those of event ``i`` are ``offsets[i]:offsets[i + 1]``.
            offsets: (events + 1,), each event with a particle at least; both are not looked at by models that take
                high-level features alone.
        """
        if PARTICLES not in self.inputs:
            starts = range(0, len(high_level), TABLE_EVENTS)
            parts = [self._run({HIGH_LEVEL: high_level[start : start + TABLE_EVENTS]}) for start in starts]
            if len(parts) == 1:
                return parts[0]
            return np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])
        found = np.empty((len(high_level), len(self.classes)), np.float32)
        lengths = np.diff(offsets)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), self._together):
            rows = order[start : start + self._together]
            given = _padded(particles, offsets, rows, lengths[rows])
            if HIGH_LEVEL in self.inputs:
                given[HIGH_LEVEL] = high_level[rows]
            found[rows] = self._run(given)
        return found

    def logits_of_stored(self, high_level: Floats, records: NDArray[Any], offsets: NDArray[np.int64]) -> Floats:
        """The same of events whose particles are as they are stored.

        Args:
            high_level: In physical units, (events, 14).
            records: ``io.selected.PARTICLE_RECORD``, (particles,); the lepton is the first of each event.
            offsets: As of :meth:`logits`.
        """
        if PARTICLES not in self.inputs:
            return self.logits(high_level, *_NOTHING)
        order = sequence_order(offsets, records["Eta"], records["Phi"])
        return self.logits(high_level, scaled_features(records, order, *_AS_THEY_ARE), offsets)

    def accepted(self, logits: Floats) -> NDArray[np.bool_]:
        """Whether events pass as each class, (events, classes)."""
        return accepted_of(logits, self._thresholds)

    def _run(self, given: dict[str, NDArray[Any]]) -> Floats:
        logits: Floats = self._session.run(["logits"], given, self._logits_alone)[0]
        return logits

    def _logits_of(self, events: Sequence[Event]) -> Floats:
        high_level = np.array([event.high_level for event in events])
        if PARTICLES not in self.inputs:
            return self.logits(high_level, *_NOTHING)
        records = np.concatenate([event.particles for event in events])
        offsets = np.cumsum([0, *(len(event.particles) for event in events)])
        return self.logits_of_stored(high_level, records, offsets)

    def _decide(self, events: Sequence[Event]) -> list[Decision | Refused]:
        logits = self._logits_of(events)
        finite = [all(map(isfinite, row)) for row in logits.tolist()]  # of one event a third of numpy's time
        accepted = self.accepted(logits).tolist()
        return [
            Decision(event.event_id, self.version, logits[place], tuple(accepted[place]))
            if finite[place]
            else Refused(event.event_id, "its logits are not finite")
            for place, event in enumerate(events)
        ]


def _padded(particles: Floats, offsets: NDArray[np.int64], rows: NDArray[Any], lengths: NDArray[Any]) -> dict[str, Any]:
    padded = np.zeros((len(rows), int(lengths.max()), particles.shape[1]), np.float32)
    for place, (row, length) in enumerate(zip(rows.tolist(), lengths.tolist(), strict=True)):
        padded[place, :length] = particles[offsets[row] : offsets[row] + length]
    return {PARTICLES: padded, "lengths": lengths.astype(np.int32)}


def _wrong(event: Event) -> str | None:
    """What no selected event is."""
    if event.high_level.shape != (len(schema.HIGH_LEVEL_FEATURES),):
        return f"{event.high_level.size} high-level features, not {len(schema.HIGH_LEVEL_FEATURES)}"
    if event.particles.dtype != PARTICLE_RECORD:
        return f"particles of type {event.particles.dtype}, not {PARTICLE_RECORD}"
    if not 1 <= len(event.particles) <= schema.MAX_PARTICLES:
        return f"{len(event.particles)} particles, not 1 to {schema.MAX_PARTICLES}"
    return event.wrong_value()


def _check_features(name: str, features: dict[str, list[list[str]]], scaled: bool) -> None:
    """Refuse a model that takes other features, or others' units, than this project makes."""
    ours = units_of(describe_features(tuple(features)), scaled=scaled)
    for key, wanted in features.items():
        for place, (one, other) in enumerate(zip(wanted, ours[key], strict=False)):
            if one != other:
                raise InvalidInputError(
                    f"{name}: {key}: feature {place} is {' in '.join(one)}, and {' in '.join(other)} is what there is: "
                    "train it anew"
                )
        if len(wanted) != len(ours[key]):
            raise InvalidInputError(
                f"{name}: {key}: {len(wanted)} features, and there are {len(ours[key])}: train it anew"
            )


def _threshold(name: str, of: str, points: Sequence[dict[str, Any]], target: float) -> float:
    """The threshold of a class at a true-positive rate; beyond 1 where nothing is to pass."""
    for point in points:
        if point["target"] == target:
            return float("inf") if point["threshold"] is None else float(point["threshold"])
    known = ", ".join(f"{point['target']:g}" for point in points)
    raise InvalidInputError(f"{name} has no working point {target:g} for {of}: choose of {known}")
