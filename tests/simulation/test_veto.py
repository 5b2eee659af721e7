"""When Pythia drops an event."""

from toposieve.simulation.veto import Veto


class GoodOnly(Veto):
    """Goes on with what is good."""

    def begins(self, process):
        return process == "good"

    def has_chance(self, event):
        return event == "good"


def test_events_without_a_chance_are_dropped_half_way():
    assert GoodOnly().doVetoPT(0, "bad") is True
    assert GoodOnly().doVetoPT(0, "good") is False


def test_what_has_no_chance_is_not_begun_with():
    veto = GoodOnly()
    assert [veto.doVetoProcessLevel(process) for process in ("good", "bad", "good")] == [False, True, False]
    assert Veto().doVetoProcessLevel("any") is False
