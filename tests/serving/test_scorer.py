import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from dataclasses import replace

import numpy as np
import pytest

from support.serving_data import make_event, metadata, portable
from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.scores import probabilities
from toposieve.io.store import root_key
from toposieve.physics.features import low_level_features, sequence_order
from toposieve.serving.events import Decision, Refused
from toposieve.serving.exports import keep_export, read_export
from toposieve.serving.scorer import Scorer

# Keras 3.15 and TensorFlow 2.21 under numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@pytest.fixture(scope="module")
def inclusive():
    return portable("inclusive")


@pytest.fixture(scope="module")
def scorer(inclusive):
    return Scorer(inclusive, 4)


def test_particles_are_expanded_and_ordered_as_for_training(scorer):
    event = make_event(1)
    records = event.particles
    columns = {name: records[name] for name in records.dtype.names}
    offsets = np.array([0, len(records)])
    particles = low_level_features(columns)[sequence_order(offsets, records["Eta"], records["Phi"])]
    expected = scorer.logits(event.high_level[np.newaxis], particles, offsets)
    (found,) = scorer.score([event])
    np.testing.assert_allclose(found.logits, expected[0], rtol=0, atol=1e-5)
    moved = replace(event, particles=np.concatenate([records[:1], records[:0:-1]]))  # all but the lepton, in any order
    np.testing.assert_array_equal(scorer.score([moved])[0].logits, found.logits)


def test_each_event_has_its_answer_whatever_comes_with_it(scorer):
    events = [make_event(seed, particles=1 + seed % 37) for seed in range(30)]
    together = scorer.score(events)
    assert [each.event_id for each in together] == [event.event_id for event in events]
    for event, found in zip(events, together, strict=True):
        assert isinstance(found, Decision)
        assert found.version == 4
        (alone,) = scorer.score([event])
        assert alone.logits.tobytes() == found.logits.tobytes()
    assert scorer.score([]) == []


def test_an_event_passes_as_each_class_whose_threshold_it_reaches(inclusive, scorer):
    assert scorer.target == 0.99
    tight = Scorer(inclusive, 4, 0.9)
    seen = set()
    for event in map(make_event, range(40)):
        for chosen, threshold in ((scorer, 0.2), (tight, 0.35)):
            (found,) = chosen.score([event])
            expected = probabilities(found.logits[np.newaxis])[0] >= threshold
            assert found.accepted == tuple(expected.tolist())
            seen.add(found.accepted)
    assert len(seen) > 2


def test_events_of_features_alone_get_the_same_bits_by_one_and_by_many():
    scorer = Scorer(portable("hlf"), 1)
    features = np.random.default_rng(1).normal(3, 2, (1300, 14)).astype(np.float32)
    nothing = np.empty((0, 0), np.float32), np.zeros(1, np.int64)
    assert scorer.logits(np.empty((0, 14), np.float32), *nothing).shape == (0, 3)  # no model is asked
    whole = scorer.logits(features, *nothing)
    for start, stop in ((0, 1), (511, 513), (7, 1300)):
        np.testing.assert_array_equal(scorer.logits(features[start:stop], *nothing), whole[start:stop])


def test_particles_may_lie_anywhere(scorer):
    event = make_event(1)
    spread = np.repeat(event.particles, 2)[::2]
    assert not spread.flags.c_contiguous
    (found,) = scorer.score([replace(event, particles=spread)])
    assert found.logits.tobytes() == scorer.score([event])[0].logits.tobytes()


BAD = {
    "particles of type float32, not ": lambda event: replace(event, particles=np.zeros((3, 19), np.float32)),
    "HT is nan": lambda event: replace(event, high_level=np.where(np.arange(14) == 0, np.nan, event.high_level)),
    "13 high-level features, not 14": lambda event: replace(event, high_level=event.high_level[1:]),
    "0 particles, not 1 to 801": lambda event: replace(event, particles=event.particles[:0]),
    "802 particles, not 1 to 801": lambda event: replace(event, particles=np.repeat(event.particles[:1], 802)),
    "Eta of particle 3 is inf": lambda event: replace(event, particles=changed(event, "Eta", np.inf)),
    "kind of particle 3 is 5": lambda event: replace(event, particles=changed(event, "kind", 5)),
}


def changed(event, field, value):
    particles = event.particles.copy()
    particles[field][3] = value
    return particles


@pytest.mark.parametrize("reason", BAD)
def test_what_is_no_event_is_refused_with_the_reason_and_the_others_are_decided(scorer, reason):
    good, other = make_event(1), make_event(2)
    found = scorer.score([good, BAD[reason](make_event(3)), other])
    assert isinstance(found[1], Refused)
    assert (found[1].event_id, found[1].reason[: len(reason)]) == ("e3", reason)
    for decided, event in ((found[0], good), (found[2], other)):
        assert decided.logits.tobytes() == scorer.score([event])[0].logits.tobytes()


def test_an_event_so_extreme_that_its_logits_are_not_finite_is_refused():
    scorer, good = Scorer(portable("hlf"), 1), make_event(1)
    extreme = replace(make_event(2), high_level=np.full(14, 3e38, np.float32))
    decided, refused = scorer.score([good, extreme])
    assert refused == Refused("e2", "its logits are not finite")
    assert decided.logits.tobytes() == scorer.score([good])[0].logits.tobytes()


def test_a_model_for_other_features_or_units_is_refused():
    said = metadata("hlf")
    said["features"]["high_level"][0] = ["HT", "MeV"]
    with pytest.raises(InvalidInputError, match="high_level: feature 0 is HT in MeV, and HT in GeV is what there is"):
        Scorer(portable("hlf", features=said["features"]), 1)
    said["features"]["high_level"] = metadata("hlf")["features"]["high_level"][:-1]
    with pytest.raises(InvalidInputError, match="high_level: 13 features, and there are 14"):
        Scorer(portable("hlf", features=said["features"]), 1)


def test_a_working_point_that_a_model_lacks_is_refused_and_one_that_nothing_reaches_lets_nothing_pass():
    with pytest.raises(InvalidInputError, match=r"no working point 0.5 for qcd: choose of 0.9, 0.99"):
        Scorer(portable("hlf"), 1, 0.5)
    never = {name: [{"target": 0.9, "threshold": None}] for name in schema.SAMPLES}
    assert Scorer(portable("hlf", thresholds=never), 1).score([make_event(1)])[0].accepted == (False, False, False)


def test_what_is_no_portable_model_is_refused():
    with pytest.raises(InvalidInputError, match=r"version 2 is no portable model .*run export_model.py again"):
        Scorer(b"no model", 1, name="version 2")


def test_an_export_is_kept_once(tmp_path, inclusive):
    folder = root_key("--base", str(tmp_path)) / "registry" / "topology"
    with pytest.raises(InvalidInputError, match=r"version 4 of .* has no portable form: run export_model"):
        Scorer.load(folder, 4)
    kept = keep_export(folder, 4, inclusive, events=10, difference=1e-7)
    assert keep_export(folder, 4, inclusive, events=10, difference=1e-7) == kept == read_export(folder, 4)
    assert Scorer.load(folder, 4).version == 4
    with pytest.raises(InvalidInputError, match="version 4 has another portable form"):
        keep_export(folder, 4, b"another", events=10, difference=0.0)
    (folder / kept.file.path).delete()
    with pytest.raises(InvalidInputError, match=r"model\.onnx"):
        Scorer.load(folder, 4)
