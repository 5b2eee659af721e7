import pytest

from toposieve import schema
from toposieve.cross_sections import CrossSection
from toposieve.io.manifests import Manifest, Unit, weight_fields
from toposieve.io.sample_cross_sections import cross_section_notes, cross_sections, sample_cross_section
from toposieve.weights import WeightSums

FIRST, SECOND = CrossSection(6.0, 0.3, 100), CrossSection(9.0, 0.4, 200)
CUT = schema.CUTFLOW[-1]


def unit(name, cross_section, events, selected, start=0):
    weights = {"events": WeightSums.of(events), CUT: WeightSums.of(selected)}
    return Unit(
        source=f"qcd/d/{name}",
        source_checksum="",
        entry_start=start,
        entry_stop=start + len(events),
        counts={"events": len(events), CUT: len(selected)},
        **weight_fields(weights),
        cross_section=cross_section,
        outputs=(),
    )


def test_a_file_counts_once_however_many_units_it_has():
    units = [unit("a", FIRST, [1, 2], [2]), unit("a", FIRST, [3], [], 2), unit("b", SECOND, [4], [4])]
    found = sample_cross_section(units, CUT)
    assert found.pb == pytest.approx(8.0 * 6 / 10)
    assert found == CrossSection.combine([FIRST, SECOND]).passing(WeightSums.of([1, 2, 3, 4]), WeightSums.of([2, 4]))
    assert found == sample_cross_section(units[::-1], CUT)
    assert sample_cross_section(units, "events") == CrossSection.combine([FIRST, SECOND])
    assert cross_section_notes(units) == []


def test_files_that_do_not_say_leave_the_sample_without_and_with_a_remark():
    units = [unit("a", FIRST, [1], [1]), unit("b", None, [1], [1]), unit("c", None, [1], [1])]
    assert sample_cross_section(units, CUT) is None
    remark = "qcd: no cross-section, since 2 of 3 files do not say theirs (qcd/d/b)"
    assert cross_section_notes(units) == [remark]


def test_files_without_events_need_not_say():
    units = [unit("a", FIRST, [1], [1]), unit("b", None, [], [])]
    assert sample_cross_section(units, CUT) == FIRST
    assert cross_section_notes(units) == []


@pytest.mark.parametrize("units", [[], [unit("a", None, [1], [1])]])
def test_where_nobody_says_nothing_is_known_nor_remarked(units):
    assert sample_cross_section(units, CUT) is None
    assert cross_section_notes(units) == []


def manifest(**extra):
    return Manifest(stage="prepare", config_hash="", config={}, units=(), extra=extra, code_version="")


def test_a_dataset_s_cross_sections_are_read_by_sample():
    said = {"qcd": {"pb": 8.0, "error": 0.5, "source": "simulation"}, "ttbar": None}
    assert cross_sections(manifest(cross_sections=said)) == {"qcd": (8.0, 0.5), "ttbar": None, "wjets": None}
    assert cross_sections(manifest()) == dict.fromkeys(schema.SAMPLES)


def test_a_unit_that_says_nothing_is_as_it_was_before():
    assert "cross_section" not in unit("a", None, [1], [1]).model_dump()
    said = unit("a", FIRST, [1], [1])
    assert Unit.model_validate_json(said.model_dump_json()) == said
