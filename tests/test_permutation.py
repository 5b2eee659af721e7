import numpy as np
import pytest

from toposieve import permutation, schema
from toposieve.event_keys import text_keys
from toposieve.physics.features import sequence_order
from toposieve.preprocessing import Scaling

LOW = len(schema.LOW_LEVEL_FEATURES)
ETA, PHI = (schema.LOW_LEVEL_FEATURES.index(name) for name in ("Eta", "Phi"))
KINDS = [schema.LOW_LEVEL_FEATURES.index(kind) for kind in schema.PARTICLE_KINDS]
KEYS = text_keys(f"qcd/day/a.root:{entry}" for entry in range(40))
SCALING = Scaling(
    high_level_offset=np.zeros(14, np.float32),
    high_level_scale=np.ones(14, np.float32),
    particle_offset=np.linspace(-0.2, 0.3, LOW, dtype=np.float32),
    particle_scale=np.linspace(0.5, 2.0, LOW, dtype=np.float32),
    weight_factors={},
)


def make_events(seed=0, leptons=("isEle", "isMu")):
    """Scaled particles of each event, in order; each particle has a number of its own as its vtxX."""
    random, events = np.random.default_rng(seed), []
    for number in range(len(KEYS)):
        rows = np.zeros((int(random.integers(2, 30)), LOW), np.float32)
        rows[:, ETA] = random.uniform(-2.5, 2.5, len(rows))
        rows[:, PHI] = random.uniform(-np.pi, np.pi, len(rows))
        kinds = random.choice(KINDS, len(rows), p=[0.4, 0.2, 0.3, 0.05, 0.05])
        kinds[0] = schema.LOW_LEVEL_FEATURES.index(random.choice(leptons))
        rows[np.arange(len(rows)), kinds] = 1
        rows[:, schema.LOW_LEVEL_FEATURES.index("vtxX")] = number + np.arange(len(rows)) / 100
        order = sequence_order(np.array([0, len(rows)]), rows[:, ETA], rows[:, PHI])
        scaled = rows[order]
        for column in (ETA, PHI):
            scaled[:, column] = (scaled[:, column] - SCALING.particle_offset[column]) / SCALING.particle_scale[column]
        events.append(scaled)
    return events


def is_of(rows, group):
    columns = [schema.LOW_LEVEL_FEATURES.index(kind) for kind in permutation.PARTICLE_GROUPS[group]]
    return rows[:, columns].any(axis=1)


def sorted_rows(rows):
    return rows[np.lexsort(rows.T)]


def test_the_sample_is_the_same_events_in_whatever_order_they_come():
    rows = permutation.sample_rows(KEYS, 15)
    assert len(rows) == 15
    assert (np.diff(rows) > 0).all()
    turned = permutation.sample_rows(KEYS[::-1], 15)
    assert set(KEYS[::-1][turned]) == set(KEYS[rows])
    np.testing.assert_array_equal(permutation.sample_rows(KEYS, 100), np.arange(len(KEYS)))


def test_each_event_gives_once_and_to_the_same_one_in_whatever_order():
    donors = permutation.donors(KEYS, "HT")
    assert sorted(donors) == list(range(len(KEYS)))
    assert (donors == np.arange(len(KEYS))).sum() < 5
    assert (donors != permutation.donors(KEYS, "MET")).any()
    turned = permutation.donors(KEYS[::-1], "HT")
    assert dict(zip(KEYS[::-1], KEYS[::-1][turned], strict=True)) == dict(zip(KEYS, KEYS[donors], strict=True))


def test_one_feature_at_a_time_is_exchanged():
    features = np.random.default_rng(1).normal(size=(len(KEYS), 14)).astype(np.float32)
    exchanged = dict(permutation.exchanged_features(features, KEYS))
    assert list(exchanged) == list(schema.HIGH_LEVEL_FEATURES)
    for place, (name, changed) in enumerate(exchanged.items()):
        np.testing.assert_array_equal(changed[:, place], features[permutation.donors(KEYS, name), place])
        np.testing.assert_array_equal(np.delete(changed, place, 1), np.delete(features, place, 1))


@pytest.mark.parametrize("group", permutation.PARTICLE_GROUPS)
def test_an_event_has_the_particles_of_a_group_of_another_and_its_own_others(group):
    events = make_events()
    exchanged = dict(permutation.exchanged_particles(events, KEYS, SCALING))[group]
    for place, giver in enumerate(permutation.donors(KEYS, group)):
        own, donor = events[place], events[giver]
        expected = np.concatenate([own[~is_of(own, group)], donor[is_of(donor, group)]])
        np.testing.assert_array_equal(sorted_rows(exchanged[place]), sorted_rows(expected))
        lepton = donor if group == permutation.LEPTONS else own
        np.testing.assert_array_equal(exchanged[place][-1], lepton[-1])


def test_the_order_is_that_of_the_kernels_around_the_lepton():
    for rows in dict(permutation.exchanged_particles(make_events(), KEYS, SCALING))["photons"]:
        eta, phi = (
            rows[:, c].astype(np.float64) * SCALING.particle_scale[c] + SCALING.particle_offset[c] for c in (ETA, PHI)
        )
        turned = np.roll(np.arange(len(rows)), 1)  # the kernel takes the lepton first
        order = turned[sequence_order(np.array([0, len(rows)]), eta[turned], phi[turned])]
        np.testing.assert_array_equal(order, np.arange(len(rows)))


def test_no_event_gets_more_particles_than_there_may_be(monkeypatch):
    monkeypatch.setattr(schema, "MAX_PARTICLES", 12)
    whole = dict(permutation.exchanged_particles(make_events(), KEYS, SCALING))
    for events in whole.values():
        assert max(map(len, events)) == 12
