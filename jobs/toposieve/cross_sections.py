"""Cross-sections in pb: of the events of one simulated file, of several, and of those that pass a selection.

Numbers in, numbers out. Errors are statistical, one standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from toposieve.weights import WeightSums

COLLISION_ENERGY = 13.0
"""√s of the simulated collisions, TeV."""


@dataclass(frozen=True)
class Production:
    """What a generator has made up to some moment.

    Attributes:
        tried: Hard collisions.
        accepted: Those of them that were made to the end.
        found: Sums over the weights of the events found among these, all that came with the last batch included; an
            event's weight is how many of its kind an accepted one stands for.
        pb: Cross-section of accepted collisions, as the generator estimates it.
        error: Its error, pb.
    """

    tried: int = 0
    accepted: int = 0
    found: WeightSums = field(default_factory=WeightSums)
    pb: float = 0.0
    error: float = 0.0

    def cross_section(self) -> CrossSection:
        """That of the events found: σ · Σw / N, with the relative variance Σw² / (Σw)² - 1 / N of Σw / N beside σ's."""
        found = self.found
        variance = max(0.0, found.squares / found.total**2 - 1 / self.accepted) if found.total else 0.0
        pb = self.pb * found.total / self.accepted
        return CrossSection(pb, pb * math.hypot(self.error / self.pb, math.sqrt(variance)), self.tried)


@dataclass(frozen=True)
class CrossSection:
    """A cross-section, pb.

    Attributes:
        pb: Its value.
        error: Its error.
        generated: Hard collisions that it was found from: its weight among others.
    """

    pb: float
    error: float
    generated: int

    @classmethod
    def combine(cls, files: Iterable[CrossSection]) -> CrossSection:
        """The one that several files of a sample, at least one, found independently: each by what it generated.

        >>> CrossSection.combine([CrossSection(6.0, 3.0, 100), CrossSection(9.0, 2.0, 200)])
        CrossSection(pb=8.0, error=1.6666666666666667, generated=300)
        """
        every = list(files)
        generated = sum(each.generated for each in every)
        pb = math.fsum(each.generated * each.pb for each in every) / generated
        error = math.sqrt(math.fsum((each.generated * each.error) ** 2 for each in every)) / generated
        return cls(pb, error, generated)

    def passing(self, events: WeightSums, passed: WeightSums) -> CrossSection | None:
        """That of the events that pass a selection.

        Args:
            events: The weights of all events that were written.
            passed: Those of the events that pass.

        Returns:
            σ ε with ε = Σw (passed) / Σw; the variance of ε is Σ (p - ε)² w² / (Σw)², where p is 1 for an event that
            passes, and 0 else. None without weight.
        """
        if events.total <= 0:
            return None
        efficiency = passed.total / events.total
        variance = max(0.0, (1 - 2 * efficiency) * passed.squares + efficiency**2 * events.squares) / events.total**2
        error = math.hypot(self.error * efficiency, self.pb * math.sqrt(variance))
        return CrossSection(self.pb * efficiency, error, self.generated)
