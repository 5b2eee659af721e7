"""When Pythia drops an event, and what is counted."""

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


def test_every_hard_collision_is_counted_also_those_not_begun_with():
    veto = GoodOnly()
    assert [veto.doVetoProcessLevel(process) for process in ("good", "bad", "good")] == [False, True, False]
    assert veto.tried == 3
    assert Veto().doVetoProcessLevel("any") is False
