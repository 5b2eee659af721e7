"""Events without a chance, dropped while Pythia still makes them.

Pythia showers an event and overlays its further collisions from hard to soft, and the soft end takes nearly all the
time: down to 5 GeV it needs a twentieth of it. What an event will hold of hard leptons and quarks is known by then.
"""

from __future__ import annotations

from typing import Any

import pythia8mc

EARLY_SCALE = 5.0
"""Scale (GeV) of showers and collisions at which events are dropped."""


class Veto(pythia8mc.UserHooks):  # type: ignore[misc]
    """Drops hard collisions without a chance, in the middle of the shower.

    Pythia does not keep it alive: whoever makes it must.
    """

    def begins(self, process: Any) -> bool:
        """Whether to go on with a hard collision, before any shower."""
        return True

    def has_chance(self, event: Any) -> bool:
        """Whether to go on with a half-showered event. Its top quarks and W bosons have not decayed yet."""
        raise NotImplementedError

    def canVetoProcessLevel(self) -> bool:
        """Pythia asks whether to call :meth:`doVetoProcessLevel`."""
        return True

    def doVetoProcessLevel(self, process: Any) -> bool:
        """Whether to drop the collision."""
        return not self.begins(process)

    def canVetoPT(self) -> bool:
        """Pythia asks whether to call :meth:`doVetoPT`."""
        return True

    def scaleVetoPT(self) -> float:
        """Scale at which Pythia calls :meth:`doVetoPT`, GeV."""
        return EARLY_SCALE

    def doVetoPT(self, _position: int, event: Any) -> bool:
        """Whether to drop a half-showered event."""
        return not self.has_chance(event)
