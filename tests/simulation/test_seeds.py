from datetime import date, timedelta

import numpy as np

from toposieve.simulation.seeds import PYTHIA_SEEDS, SEEDS_PER_DAY, detector_rng, file_number, series_seed

DAYS = [str(date(2000, 1, 1) + timedelta(n)) for n in range(PYTHIA_SEEDS // SEEDS_PER_DAY)]


def seeds_of(partition: str, files: int, sample: str = "qcd") -> list[int]:
    return [series_seed(file_number(partition, index), 1, sample) for index in range(files)]


def test_no_two_files_of_a_partition_have_one_seed():
    """So many hashes would make some five pairs."""
    for partition in ("2026-01-01", "warm-up"):
        seeds = seeds_of(partition, 100_000)
        assert len(set(seeds)) == 100_000
        assert min(seeds) >= 1
        assert max(seeds) <= PYTHIA_SEEDS


def test_no_two_days_of_68_years_have_a_seed_in_common():
    """The seeds of a day follow each other, and those of the next day begin where they end."""
    firsts = np.sort([series_seed(file_number(day, 0), 1, "qcd") for day in DAYS])
    assert set(np.diff(firsts)) == {SEEDS_PER_DAY}
    assert firsts[0] + PYTHIA_SEEDS - firsts[-1] == SEEDS_PER_DAY
    assert seeds_of("2026-01-02", 1)[0] == seeds_of("2026-01-01", SEEDS_PER_DAY)[-1] % PYTHIA_SEEDS + 1


def test_seeds_end_with_pythias_range_and_go_on_at_its_start():
    seeds = [series_seed(number, 1, "qcd") for number in (0, PYTHIA_SEEDS - 1, PYTHIA_SEEDS)]
    assert seeds[0] == seeds[2] != seeds[1]


def test_only_a_whole_date_is_a_day():
    """Otherwise two names of a day would share its seeds."""
    names = ("2026-01-02", "2026-1-2", "20260102", "2026-W01-5", "2026-01-02T00", "warm-up")
    assert len({file_number(name, 0) for name in names}) == len(names)
    assert sum(file_number(name, 0) % SEEDS_PER_DAY == 0 for name in names) == 1


def test_a_seed_is_the_same_in_every_process():
    assert seeds_of("2026-01-01", 4)[3] == 586742352


def test_parts_do_not_run_into_each_other():
    assert series_seed(0, "a", "bc") != series_seed(0, "ab", "c")


def test_detector_numbers_follow_from_sample_and_seed():
    assert detector_rng("qcd", 5).random() == detector_rng("qcd", 5).random()
    assert detector_rng("qcd", 5).random() != detector_rng("qcd", 6).random()
    assert detector_rng("qcd", 5).random() != detector_rng("wjets", 5).random()
