"""What the firmware takes: high-level features in physical units, as fixed-point words.

A word is the feature over its least step, rounded half up; beyond the port's range it is the range's end. Steps are
powers of two, such that the training split lies within [-1, 1) of ``2**exponent`` and the port reaches
``2**INTEGER_BITS`` times as far. So the logic needs no multiplication to scale: moving the point is free, and what is
left of the scaling is in the weights of the first layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.preprocessing import Scaling

INTEGER_BITS = 3
"""Of a word, beside its sign: by which the port reaches beyond the training split. There the logic saturates."""

Words = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Port:
    """Format of the words.

    Attributes:
        exponents: (14,) the training split of a feature lies within ±2**exponent.
        fraction_bits: Of a word, below 2**exponent.
    """

    exponents: NDArray[np.int64]
    fraction_bits: int

    @classmethod
    def of(cls, scaling: Scaling, fraction_bits: int) -> Port:
        """The port for features of a dataset."""
        ends = np.abs([scaling.high_level_offset, scaling.high_level_offset + scaling.high_level_scale]).max(axis=0)
        return cls(np.ceil(np.log2(ends.astype(np.float64))).astype(np.int64), fraction_bits)

    @property
    def word_bits(self) -> int:
        """Bits of a word, in two's complement."""
        return 1 + INTEGER_BITS + self.fraction_bits

    @property
    def steps(self) -> FloatArray:
        """(14,) what the lowest bit of each word stands for, in the feature's unit."""
        steps: FloatArray = np.exp2(self.exponents.astype(np.float64) - self.fraction_bits)
        return steps

    @property
    def ends(self) -> tuple[float, float]:
        """Least and most value behind the port: the logic saturates there."""
        return -1.0, 1 - 2.0**-self.fraction_bits

    def rounded(self, features: NDArray[Any]) -> Words:
        """Features in physical units, (events, 14), in steps, which may lie beyond what a word holds."""
        return np.floor(features.astype(np.float64) / self.steps + 0.5).astype(np.int64)

    def saturated(self, steps: Words) -> Words:
        """The words of :meth:`rounded` features."""
        end = 1 << (self.word_bits - 1)
        return np.clip(steps, -end, end - 1)

    def values(self, steps: Words) -> FloatArray:
        """The same as fractions of 2**exponent: what the student is told."""
        return steps.astype(np.float64) * 2.0**-self.fraction_bits

    def folded(
        self, kernel: NDArray[Any], bias: NDArray[Any], scaling: Scaling
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A first layer that takes values, from one that takes scaled features.

        Args:
            kernel: (14, units).
            bias: (units,).
            scaling: Of the latter's features.

        Returns:
            Kernel and bias; on any event they give the same.
        """
        inverse = 1 / scaling.high_level_scale.astype(np.float64)
        wide = kernel.astype(np.float64)
        moved = bias - (scaling.high_level_offset * inverse) @ wide
        scaled = (np.exp2(self.exponents.astype(np.float64)) * inverse)[:, np.newaxis] * wide
        return scaled.astype(np.float32), moved.astype(np.float32)

    def describe(self) -> list[dict[str, Any]]:
        """Each word for the report, the one in the lowest bits first."""
        end = 1 << (self.word_bits - 1)
        return [
            {"feature": name, "unit": schema.UNITS[name], "step": step, "least": -end * step, "most": (end - 1) * step}
            for name, step in zip(schema.HIGH_LEVEL_FEATURES, self.steps.tolist(), strict=True)
        ]


REACHES = (1.0, 2.0**INTEGER_BITS, 4 * 2.0**INTEGER_BITS)
"""Of random features, over 2**exponent: as the training split, as the port, and beyond it."""


def random_features(port: Port, events: int, seed: int) -> FloatArray:
    """Features of no event, (events, 14): a third of each of :data:`REACHES`, and the ends of the port's range."""
    random = np.random.default_rng(seed)
    reach = np.resize(np.asarray(REACHES), events)[:, np.newaxis]
    drawn = random.uniform(-1, 1, (events, len(port.exponents))) * reach
    drawn[:2] = [[-REACHES[-1]], [REACHES[-1]]]
    scaled: FloatArray = drawn * np.exp2(port.exponents.astype(np.float64))
    return scaled
