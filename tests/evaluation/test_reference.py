from toposieve import schema
from toposieve.evaluation.reference import PUBLISHED


def test_our_models_stand_beside_one_published_result_each_and_the_inclusive_one_beside_the_best() -> None:
    counterparts = [result.counterpart for result in PUBLISHED if result.counterpart]
    assert len(counterparts) == len(set(counterparts))
    best = max(PUBLISHED, key=lambda result: result.accuracy)
    assert (best.counterpart, best.auc) == ("inclusive", {"qcd": 0.9956, "ttbar": 0.9972, "wjets": 0.9952})


def test_every_result_is_of_our_samples() -> None:
    for result in PUBLISHED:
        assert tuple(result.auc) == schema.SAMPLES
        assert all(0.5 < auc < 1 for auc in [*result.auc.values(), result.accuracy] if auc is not None)
