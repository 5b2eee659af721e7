"""Particles and events with what our code asks of Pythia's."""

from __future__ import annotations


class Particle:
    """What the code asks of a Pythia particle."""

    def __init__(self, pdg, pt=30.0, eta=0.0, status=1):
        self._values = (pdg, pt, eta, status)

    def idAbs(self):
        return abs(self._values[0])

    def pT(self):
        return self._values[1]

    def eta(self):
        return self._values[2]

    def status(self):
        return self._values[3]


class Event(list):
    """What the code asks of a Pythia event; the first three entries are the event and its beams."""

    def __init__(self, *particles):
        super().__init__([None, None, None, *particles])

    def size(self):
        return len(self)
