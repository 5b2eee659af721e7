from toposieve.simulation.seeds import PYTHIA_SEEDS, derive_seed, detector_rng


def test_seeds_are_in_pythias_range_and_differ():
    seeds = {derive_seed(1, partition, "qcd", i) for partition in ("2026-01-01", "2026-01-02") for i in range(500)}
    assert len(seeds) == 1000
    assert min(seeds) >= 1
    assert max(seeds) <= PYTHIA_SEEDS


def test_a_seed_is_the_same_in_every_process():
    assert derive_seed(1, "2026-01-01", "qcd", 3) == 106496430


def test_parts_do_not_run_into_each_other():
    assert derive_seed("a", "bc") != derive_seed("ab", "c")


def test_detector_numbers_follow_from_the_seed():
    assert detector_rng(5).random() == detector_rng(5).random()
    assert detector_rng(5).random() != detector_rng(6).random()
