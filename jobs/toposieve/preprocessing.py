"""Balance, split and scaling of selected events: counts and statistics, no IO.

Which event goes where is decided by hashes (:mod:`toposieve.assignment`); this module says how many go where, and
what the features are scaled by.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.config import PreparationConfig
from toposieve.errors import InvalidInputError

if TYPE_CHECKING:  # training reads scalings without the kernels' compiler
    from toposieve.physics.moments import Moments

SCALED_FEATURES: tuple[str, ...] = tuple(
    name for name in schema.LOW_LEVEL_FEATURES if name not in schema.UNSCALED_FEATURES
)
"""Low-level features that are standardised, in order."""

_SCALED_COLUMNS = [schema.LOW_LEVEL_FEATURES.index(name) for name in SCALED_FEATURES]

_NO_SPREAD = float(np.finfo(np.float32).eps)
"""Features are float32: a standard deviation below this share of the mean is rounding, not spread."""

SplitSizes = dict[str, dict[str, int]]
"""Split → sample → events."""


# --- balance and split -------------------------------------------------------------------------------------------


def class_sizes(available: Mapping[str, int], config: PreparationConfig) -> dict[str, int]:
    """Events of each class that the dataset keeps, in the order of ``config.classes``.

    Args:
        available: Selected events per sample.
        config: With ``balance``, every class gets as many events as the smallest has; ``max_events_per_class`` limits
            that.

    Raises:
        InvalidInputError: A class has no selected event.

    >>> class_sizes({"qcd": 5, "ttbar": 9, "wjets": 7}, PreparationConfig())
    {'qcd': 5, 'ttbar': 5, 'wjets': 5}
    """
    missing = [sample for sample in config.classes if not available.get(sample)]
    if missing:
        raise InvalidInputError(
            f"no selected events of {', '.join(missing)}: every class is needed; give partitions that have them, or "
            "other classes"
        )
    smallest = min(available[sample] for sample in config.classes)
    limit = config.max_events_per_class or max(available.values())
    return {sample: min(smallest if config.balance else available[sample], limit) for sample in config.classes}


def split_stops(events: int, config: PreparationConfig) -> tuple[int, int, int]:
    """Ranks at which train, validation and test end when ``events`` of one class are put in order.

    >>> split_stops(100, PreparationConfig())
    (64, 80, 100)
    """
    train = config.train_fraction * events
    validation = (config.train_fraction + config.validation_fraction) * events
    return math.floor(train + 0.5), math.floor(validation + 0.5), events


def split_sizes(sizes: Mapping[str, int], config: PreparationConfig) -> SplitSizes:
    """Events per split and sample.

    Raises:
        InvalidInputError: A split would have no event of some class.
    """
    stops = {sample: (0, *split_stops(events, config)) for sample, events in sizes.items()}
    splits = {
        split: {sample: stop[i + 1] - stop[i] for sample, stop in stops.items()}
        for i, split in enumerate(schema.SPLITS)
    }
    empty = [f"{split}/{sample}" for split, counts in splits.items() for sample, count in counts.items() if not count]
    if empty:
        kept = ", ".join(f"{events} {sample}" for sample, events in sizes.items())
        raise InvalidInputError(
            f"too few events ({kept}): nothing would be left for {', '.join(empty)}; "
            "give more partitions or other fractions"
        )
    return splits


def shard_stops(events: int, config: PreparationConfig) -> list[int]:
    """Ranks at which the shards of a split end: as few as ``events_per_shard`` allows, of equal counts, or one more.

    >>> shard_stops(10, PreparationConfig(events_per_shard=3))
    [2, 5, 7, 10]
    """
    shards = math.ceil(events / config.events_per_shard)
    return [(shard + 1) * events // shards for shard in range(shards)]


# --- scaling -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaling:
    """Scaled feature = (feature - offset) / scale, in float32; weight = event weight * its class's factor.

    Attributes:
        high_level_offset: Smallest value in the training split, (14,).
        high_level_scale: Largest less smallest value, (14,); 1 where there is no spread.
        particle_offset: Mean over training events' particles by absolute weight, (19,); 0 for flags and charge.
        particle_scale: Standard deviation by absolute weight, (19,); 1 without spread, and for flags and charge.
        weight_factors: Sample → factor that makes the mean |weight| of its training events 1.
    """

    high_level_offset: NDArray[np.float32]
    high_level_scale: NDArray[np.float32]
    particle_offset: NDArray[np.float32]
    particle_scale: NDArray[np.float32]
    weight_factors: Mapping[str, float]

    @classmethod
    def fit(
        cls,
        minimum: NDArray[Any],
        maximum: NDArray[Any],
        particles: Iterable[tuple[str, Moments]],
        weight_factors: Mapping[str, float],
    ) -> Scaling:
        """Scaling from the training split.

        Args:
            minimum: Smallest value of each high-level feature, (14,).
            maximum: Largest value, (14,).
            particles: Sample and moments of the scaled features (with the events' own weights) of each part, in a
                fixed order.
            weight_factors: Sample → factor of its weights, from :func:`weight_factors`.
        """
        parts = (part.reweighted(weight_factors[sample]) for sample, part in particles)
        whole = reduce(lambda merged, part: merged.merge(part), parts)
        deviation = np.sqrt(np.maximum(whole.squares, 0.0) / whole.weight)
        offset, scale = np.zeros(len(schema.LOW_LEVEL_FEATURES)), np.ones(len(schema.LOW_LEVEL_FEATURES))
        offset[_SCALED_COLUMNS] = whole.mean
        scale[_SCALED_COLUMNS] = np.where(deviation > _NO_SPREAD * np.abs(whole.mean), deviation, 1.0)
        spread = maximum.astype(np.float64) - minimum.astype(np.float64)
        return cls(
            high_level_offset=minimum.astype(np.float32),
            high_level_scale=np.where(spread > 0, spread, 1.0).astype(np.float32),
            particle_offset=offset.astype(np.float32),
            particle_scale=scale.astype(np.float32),
            weight_factors=dict(weight_factors),
        )

    def apply_high_level(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Scale high-level features, (events, 14); the training split comes to lie in [0, 1]."""
        return (features.astype(np.float32) - self.high_level_offset) / self.high_level_scale

    def apply_particles(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale low-level features of real particles, (particles, 19)."""
        scaled = features - self.particle_offset
        scaled /= self.particle_scale
        return scaled

    def physical_high_level(self, scaled: NDArray[Any]) -> NDArray[Any]:
        """Inverse of :meth:`apply_high_level`, but for rounding."""
        return scaled * self.high_level_scale + self.high_level_offset

    def physical_particles(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inverse of :meth:`apply_particles`, but for rounding."""
        return scaled * self.particle_scale + self.particle_offset

    def rescale_high_level(self, features: NDArray[np.float32], other: Scaling) -> NDArray[np.float32]:
        """High-level features that another scaling has scaled, (events, 14), as this one scales them."""
        return self.apply_high_level(other.physical_high_level(features))

    def rescale_particles(self, features: NDArray[np.float32], other: Scaling) -> NDArray[np.float32]:
        """The same of particles, (..., particles, 19), zero-padded: padding stays 0."""
        is_real = features.any(axis=-1, keepdims=True)
        rescaled = self.apply_particles(other.physical_particles(features))
        return np.where(is_real, rescaled, np.float32(0.0))

    def apply_weights(self, samples: Sequence[str], weights: NDArray[Any]) -> NDArray[np.float32]:
        """Normalise weights of events of these samples, (events,)."""
        factors: NDArray[np.float64] = np.array([self.weight_factors[sample] for sample in samples])
        return (weights.astype(np.float64) * factors).astype(np.float32)

    def to_json(self) -> str:
        """Content of ``scaling.json``: names, units, offset and scale of every feature. Same scaling, same bytes."""
        content = {
            "formula": "scaled = (feature - offset) / scale; weight = event weight * weight_factors[sample]",
            "high_level": _describe(schema.HIGH_LEVEL_FEATURES, self.high_level_offset, self.high_level_scale),
            "particles": _describe(schema.LOW_LEVEL_FEATURES, self.particle_offset, self.particle_scale),
            "weight_factors": dict(self.weight_factors),
        }
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Scaling:
        """Inverse of :meth:`to_json`.

        Raises:
            InvalidInputError: The text is not a scaling of these features.
        """
        try:
            content = json.loads(text)
            high_level = _columns(content["high_level"], schema.HIGH_LEVEL_FEATURES)
            particles = _columns(content["particles"], schema.LOW_LEVEL_FEATURES)
            factors = {sample: float(factor) for sample, factor in content["weight_factors"].items()}
            return cls(*high_level, *particles, factors)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"not a scaling.json of this version ({error}); prepare the dataset again"
            ) from None


def weight_factors(training: Mapping[str, tuple[int, float]]) -> dict[str, float]:
    """Sample → factor that makes the mean |weight| of its training events 1.

    By |w|: where the signs cancel to a fifth, as with 40 % of negative weights, a class would count five times.

    Args:
        training: Sample → number of its training events, and sum of their absolute weights.

    Raises:
        InvalidInputError: The weights of a class are all 0.
    """
    for sample, (_, total) in training.items():
        if not total:
            raise InvalidInputError(
                f"every event weight of {sample} is 0 in the training split: write weights, or leave "
                f"{schema.WEIGHT_BRANCH} out of its files, and ingest and select again"
            )
    return {sample: events / total for sample, (events, total) in training.items()}


def _describe(names: tuple[str, ...], offset: NDArray[Any], scale: NDArray[Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "unit": schema.UNITS[name], "offset": float(offset[i]), "scale": float(scale[i])}
        for i, name in enumerate(names)
    ]


def _columns(rows: list[dict[str, Any]], names: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if tuple(row["name"] for row in rows) != names:
        raise ValueError(f"its features are not {', '.join(names)}")
    offset, scale = (np.array([row[key] for row in rows], np.float32) for key in ("offset", "scale"))
    return offset, scale
