import math

import numpy as np
import pytest

from toposieve.cross_sections import CrossSection, Production
from toposieve.weights import WeightSums


def test_what_is_found_has_its_share_of_what_is_accepted():
    """Of 50 accepted ones, 4 were found, which stand for 1, 1, 2 and 0.5."""
    made = Production(tried=80, accepted=50, found=WeightSums.of([1.0, 1.0, 2.0, 0.5]), pb=200.0, error=6.0)
    found = made.cross_section()
    assert found.pb == pytest.approx(200 * 4.5 / 50)
    assert found.generated == 80
    share_error = math.sqrt((1 + 1 + 4 + 0.25) - 4.5**2 / 50) / 50
    assert found.error == pytest.approx(math.hypot(6.0 * 4.5 / 50, 200 * share_error))


def test_where_all_are_found_the_error_is_the_generator_s():
    made = Production(tried=80, accepted=50, found=WeightSums.of([1.0] * 50), pb=200.0, error=6.0)
    assert made.cross_section() == CrossSection(200.0, 6.0, 80)


def reference(files):
    """Plain sums over files of value, error and generated events."""
    generated = sum(n for _, _, n in files)
    return (
        sum(n * pb for pb, _, n in files) / generated,
        sum((n / generated) ** 2 * error**2 for _, error, n in files) ** 0.5,
        generated,
    )


@pytest.mark.parametrize("n_files", [1, 2, 20])
def test_files_are_averaged_by_what_they_generated(n_files):
    rng = np.random.default_rng(n_files)
    files = [(rng.uniform(1, 2), rng.uniform(0.1, 0.3), int(rng.integers(1, 1000))) for _ in range(n_files)]
    combined = CrossSection.combine(CrossSection(*file) for file in files)
    assert (combined.pb, combined.error, combined.generated) == pytest.approx(reference(files))


def test_halves_combine_to_the_whole_in_any_order():
    files = [CrossSection(1 / 3 + i, 0.1 + i / 7, 10 + i) for i in range(9)]
    assert CrossSection.combine(files) == CrossSection.combine(files[::-1])
    parts = CrossSection.combine([CrossSection.combine(files[:4]), CrossSection.combine(files[4:])])
    whole = CrossSection.combine(files)
    assert (parts.pb, parts.error, parts.generated) == pytest.approx((whole.pb, whole.error, whole.generated))


def test_a_selection_takes_its_share_of_the_weight():
    weights, passes = np.array([1.0, 3.0, 2.0, 2.0]), np.array([True, False, True, False])
    all_, passed = WeightSums.of(weights.tolist()), WeightSums.of(weights[passes].tolist())
    found = CrossSection(80.0, 4.0, 100).passing(all_, passed)
    share = 3 / 8
    variance = (((passes - share) * weights) ** 2).sum() / 8**2
    assert (found.pb, found.error) == pytest.approx((80 * share, math.hypot(4 * share, 80 * math.sqrt(variance))))
    assert CrossSection(80.0, 4.0, 100).passing(all_, all_) == CrossSection(80.0, 4.0, 100)


def test_the_errors_are_what_repeated_experiments_scatter_by():
    """Generated, found with weights of 1 or 3, and selected, a thousand times; the generator knows 100 ± 0 pb."""
    rng = np.random.default_rng(1)
    results = []
    for _ in range(1000):
        weights = np.where(rng.random(200) < 0.3, 1.0, 3.0)[rng.random(200) < 0.5]
        passes = rng.random(len(weights)) < 0.6
        sums = WeightSums.of(weights.tolist())
        found = Production(200, 200, sums, 100.0, 0.0).cross_section()
        results.append(found.passing(sums, WeightSums.of(weights[passes].tolist())))
    values, errors = np.array([(each.pb, each.error) for each in results]).T
    assert values.mean() == pytest.approx(100 * 0.5 * 0.6 * (0.3 * 1 + 0.7 * 3), rel=0.02)
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.08)


def test_without_weight_nothing_is_known():
    assert CrossSection(80.0, 4.0, 100).passing(WeightSums.of([1.0, -1.0]), WeightSums.of([1.0])) is None
