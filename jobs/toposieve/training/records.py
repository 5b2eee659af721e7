"""TFRecord examples → padded tensors, for our own records and for the published ones.

Which key plays which role is configurable. Where a record has no weight it is 1, and where it has no length the
trailing particles that are all zero are padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.io.tfrecord import Value, encode_example
from toposieve.models import HIGH_LEVEL, PARTICLES

PARTICLE_FEATURES = len(schema.LOW_LEVEL_FEATURES)
CLASSES = len(schema.LABELS)
EVENT_ID = "event_id"

Batch = dict[str, tf.Tensor]


@dataclass(frozen=True)
class RecordReader:
    """How to read one kind of records."""

    keys: Mapping[str, str]
    """Role → key; roles that neither the records have nor the model takes are left out."""
    one_hot_label: bool

    def read(self, serialized: tf.Tensor) -> Batch:
        """Parse (batch,) serialised examples; an empty string becomes an event that counts for nothing.

        Returns:
            The model's inputs among ``high_level`` (batch, 14) and ``particles`` (batch, 801, 19), and ``label``
            int64, ``weight`` float32 and ``present`` float32 (0 for an event that is not there), (batch,) each;
            ``event_id`` bytes, (batch,), where asked for.
        """
        present = tf.strings.length(serialized) > 0
        parsed = tf.io.parse_example(tf.where(present, serialized, self._filler()), self._features())
        by_role = {role: parsed[key] for role, key in self.keys.items()}
        weight = by_role.get("weight", tf.ones_like(present, tf.float32))
        batch = {
            "label": self._labels(by_role["label"]),
            "weight": tf.where(present, _finite(weight, "weight"), 0.0),
            "present": tf.cast(present, tf.float32),
        }
        if HIGH_LEVEL in by_role:
            batch[HIGH_LEVEL] = _finite(by_role[HIGH_LEVEL], HIGH_LEVEL)
        if PARTICLES in by_role:
            batch[PARTICLES] = _padded(by_role[PARTICLES], by_role.get("length"))
        if EVENT_ID in by_role:
            batch[EVENT_ID] = by_role[EVENT_ID]
        return batch

    def _features(self) -> dict[str, object]:
        label = tf.io.FixedLenFeature((CLASSES,), tf.float32) if self.one_hot_label else _scalar(tf.int64)
        kinds = {
            HIGH_LEVEL: tf.io.FixedLenFeature((len(schema.HIGH_LEVEL_FEATURES),), tf.float32),
            PARTICLES: tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int64),
            "length": _scalar(tf.int64),
            "label": label,
            "weight": _scalar(tf.float32),
            EVENT_ID: _scalar(tf.string),
        }
        return {key: kinds[role] for role, key in self.keys.items()}

    def _labels(self, stored: tf.Tensor) -> tf.Tensor:
        labels = tf.argmax(stored, axis=-1) if self.one_hot_label else stored
        tf.debugging.assert_non_negative(labels, "label out of range")
        tf.debugging.assert_less(labels, tf.constant(CLASSES, tf.int64), "label out of range")
        return labels

    def _filler(self) -> bytes:
        """A valid example with one particle: no recurrent layer sees an event without any."""
        values: dict[str, Value] = {
            HIGH_LEVEL: np.zeros(len(schema.HIGH_LEVEL_FEATURES), np.float32),
            PARTICLES: np.ones(PARTICLE_FEATURES, np.float32),
            "length": 1,
            "label": np.eye(CLASSES, dtype=np.float32)[0] if self.one_hot_label else 0,
            "weight": np.zeros(1, np.float32),
            EVENT_ID: b"",
        }
        return encode_example({key: values[role] for role, key in self.keys.items()})


def reader_for(shard: Key, path: Path, keys: Mapping[str, str], inputs: tuple[str, ...]) -> RecordReader:
    """Look at a shard's first record and say how to read it.

    Args:
        shard: A TFRecord file of the dataset.
        path: It, or its copy on this machine.
        keys: Role → key, as configured.
        inputs: Roles that the model takes; ``event_id`` too, by whoever wants it.

    Raises:
        InvalidInputError: A role is unknown or not configured, or the record lacks its key or has other numbers in it.
    """
    unknown = sorted(set(keys) - set(schema.RECORD_KEYS))
    if unknown:
        raise InvalidInputError(
            f"record_keys: unknown role {', '.join(unknown)}; known: {', '.join(schema.RECORD_KEYS)}"
        )
    optional = ("weight", "length") if PARTICLES in inputs else ("weight",)
    wanted = {role: keys[role] for role in (*inputs, "label", *optional) if role in keys}
    record = _first_record(shard, path).features.feature
    for role in (*inputs, "label"):
        if role not in wanted:
            raise InvalidInputError(f"record_keys names no key for {role}, which the model needs")
    for role, key in wanted.items():
        if key not in record:
            has = ", ".join(sorted(record))
            raise InvalidInputError(
                f"{shard}: no key {key!r} ({role}) in its records, which have {has}; set record_keys"
            )
    _check_widths(shard, wanted, record)
    return RecordReader(wanted, one_hot_label=bool(record[wanted["label"]].float_list.value))


def _first_record(shard: Key, path: Path) -> tf.train.Example:
    try:
        for serialized in tf.data.TFRecordDataset(str(path)).take(1):
            return tf.train.Example.FromString(serialized.numpy())
    except tf.errors.OpError as error:
        raise InvalidInputError(f"{shard} cannot be read: {error.message}; write it again") from None
    raise InvalidInputError(f"{shard} holds no records: write it again")


def _check_widths(shard: Key, wanted: Mapping[str, str], record: Mapping[str, tf.train.Feature]) -> None:
    if HIGH_LEVEL in wanted:
        found = len(record[wanted[HIGH_LEVEL]].float_list.value)
        if found != len(schema.HIGH_LEVEL_FEATURES):
            raise InvalidInputError(
                f"{shard}: key {wanted[HIGH_LEVEL]!r} holds {found} floats, not {len(schema.HIGH_LEVEL_FEATURES)}"
            )
    if PARTICLES in wanted:
        found = len(record[wanted[PARTICLES]].float_list.value)
        if found == 0 or found % PARTICLE_FEATURES:
            raise InvalidInputError(
                f"{shard}: key {wanted[PARTICLES]!r} holds {found} floats, not a multiple of {PARTICLE_FEATURES}"
            )


def _padded(flat: tf.RaggedTensor, length: tf.Tensor | None) -> tf.Tensor:
    """(batch, particles * 19) ragged → (batch, 801, 19), zeros on the right."""
    rows = tf.reshape(_finite(flat.flat_values, PARTICLES), (-1, PARTICLE_FEATURES))  # (particles of the batch, 19)
    particles = tf.RaggedTensor.from_row_splits(rows, flat.row_splits // PARTICLE_FEATURES)
    stored = particles.row_lengths()
    if length is None:
        real = tf.cast(tf.reduce_any(rows != 0.0, axis=-1), tf.int64)
        place = tf.range(tf.shape(rows, tf.int64)[0]) - tf.gather(particles.row_starts(), particles.value_rowids()) + 1
        length = tf.math.unsorted_segment_max(real * place, particles.value_rowids(), tf.shape(stored)[0])
        length = tf.maximum(length, 0)
    else:
        tf.debugging.assert_equal(stored, length, "length is not the number of stored particles")
    tf.debugging.assert_less_equal(length, tf.constant(schema.MAX_PARTICLES, tf.int64), "too many particles")
    return particles.to_tensor(shape=(None, schema.MAX_PARTICLES, PARTICLE_FEATURES))


def _finite(values: tf.Tensor, role: str) -> tf.Tensor:
    return tf.debugging.check_numerics(values, f"in {role}")


def _scalar(dtype: tf.DType) -> tf.io.FixedLenFeature:
    return tf.io.FixedLenFeature((), dtype)
