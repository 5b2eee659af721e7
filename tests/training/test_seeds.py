from toposieve.training.seeds import folded


def test_seeds_of_any_size_fit_and_differ() -> None:
    seeds = [folded(seed) for seed in (0, 1, 2, 2**31 - 1, 2**32, 2**32 + 1, 2**70)]
    assert len(set(seeds)) == len(seeds)
    assert all(1 <= seed <= 2**30 for seed in seeds)
