"""What counts as input, and what is remembered of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from toposieve import schema
from toposieve.cross_sections import CrossSection
from toposieve.errors import InvalidInputError
from toposieve.io.delphes import SourceFile
from toposieve.io.manifests import Manifest, OutputFile, Unit, manifest_name
from toposieve.io.raw import KNOWN_NAME, FoundFile, check_gone, find_files, read_known, write_known
from toposieve.io.store import Key

DAY = "2026-01-01"


def key_of(folder: Path) -> Key:
    return Key(str(folder))


def put(raw: Path, *names: str, sample: str = "qcd") -> None:
    for name in names:
        path = raw / sample / DAY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")


def publish(raw: Path, *files: OutputFile, number: int = 1, cross_section: CrossSection | None = None) -> None:
    """A simulation's manifest."""
    units = [
        Unit(
            source=f"file {i}",
            source_checksum="",
            entry_start=0,
            entry_stop=1,
            counts={},
            cross_section=cross_section,
            outputs=(file,),
        )
        for i, file in enumerate(files)
    ]
    manifest = Manifest(stage="simulate", config_hash="1f", config={}, units=tuple(units), code_version="v1")
    (raw / "qcd" / DAY / manifest_name(number)).write_bytes(manifest.to_bytes())


def found(raw: Path, samples: Sequence[str] = schema.SAMPLES) -> list[FoundFile]:
    return find_files(key_of(raw), samples, DAY)


def ids(files: list[FoundFile]) -> list[str]:
    return [file.id for file in files]


# --- which files are input -----------------------------------------------------------------------------------------


def test_files_come_in_order_with_size_and_version(tmp_path: Path) -> None:
    put(tmp_path, "b.root", "a.root")
    put(tmp_path, "c.root", sample="wjets")
    files = found(tmp_path)
    assert ids(files) == [f"qcd/{DAY}/a.root", f"qcd/{DAY}/b.root", f"wjets/{DAY}/c.root"]
    stat = (tmp_path / files[0].id).stat()
    assert files[0] == FoundFile(files[0].id, 7, str(stat.st_mtime_ns))


def test_hidden_files_folders_and_files_of_other_kinds_are_no_input(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.root",
        ".a.root",
        "._a.root",
        ".tmp-1f.root",
        "a.root.part",
        "a.txt",
        "folder.root/x",
        "more/b.root",
    )
    assert ids(found(tmp_path)) == [f"qcd/{DAY}/a.root"]


def test_a_link_that_leads_nowhere_is_found_so_that_it_is_said(tmp_path: Path) -> None:
    put(tmp_path, "a.root")
    (tmp_path / "qcd" / DAY / "b.root").symlink_to("nowhere")
    assert ids(found(tmp_path)) == [f"qcd/{DAY}/a.root", f"qcd/{DAY}/b.root"]


@pytest.mark.parametrize("samples", [schema.SAMPLES, ["qcd"], ["qcd", "ttbar"]])
def test_no_files_are_an_error_that_names_the_folders(tmp_path: Path, samples: Sequence[str]) -> None:
    put(tmp_path, "a.txt")
    with pytest.raises(InvalidInputError, match=rf"no ROOT files .*qcd/{DAY}.*: put some there, or run simulate.py"):
        found(tmp_path, samples)


@pytest.mark.parametrize("samples", [schema.SAMPLES, ["qcd", "ttbar"]])
def test_a_partition_may_have_some_samples_and_what_is_missing_is_said(
    tmp_path: Path, samples: Sequence[str], caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "a.root")
    assert ids(found(tmp_path, samples)) == [f"qcd/{DAY}/a.root"]
    assert f"partition {DAY} has no files of {', '.join(samples[1:])} (in {tmp_path}/ttbar/{DAY}" in caplog.text
    with pytest.raises(InvalidInputError, match=rf"no ROOT files .* in {tmp_path}/ttbar/{DAY}: "):
        found(tmp_path, ["ttbar"])


@pytest.mark.parametrize("link", ["qcd", f"qcd/{DAY}"])
def test_a_folder_out_of_reach_is_no_empty_one(tmp_path: Path, link: str) -> None:
    put(tmp_path, "a.root", sample="ttbar")
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "not mounted")
    with pytest.raises(InvalidInputError, match=rf"{tmp_path / link} is a link that leads nowhere: mount what"):
        found(tmp_path)


def test_a_name_that_is_not_utf8_is_a_problem_of_that_file(tmp_path: Path) -> None:
    put(tmp_path, "a.root", "caf\udce9.root", "café.root", f"{'n' * 210}.root")
    problems = {Path(file.id).name: file.problem for file in found(tmp_path)}
    assert problems == {
        "a.root": "",
        "café.root": "",
        f"{'n' * 210}.root": "",
        "caf\\xe9.root": f"qcd/{DAY}/caf\\xe9.root: its name is not UTF-8; rename it",
    }


def test_names_that_are_not_utf8_can_be_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "caf\udce9.root", "simulated/b.root")
    publish(tmp_path, OutputFile(path="simulated/b.root", bytes=7, checksum="0000000a"))
    assert ids(found(tmp_path)) == [f"qcd/{DAY}/simulated/b.root"]
    assert "does not list them: caf\\xe9.root" in caplog.text
    assert "UnicodeEncodeError" not in capsys.readouterr().err


def test_a_manifest_says_what_the_simulation_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "mine.root", "simulated/qcd-000000-1f.root", "simulated/qcd-000001-2e.root")
    listed = [OutputFile(path=f"simulated/qcd-00000{i}-{i + 1}f.root", bytes=7, checksum="0000000a") for i in (0, 1)]
    sigma = CrossSection(3.0, 0.5, 10)
    publish(tmp_path, *listed, cross_section=sigma)
    files = found(tmp_path)
    assert ids(files) == [f"qcd/{DAY}/{file.path}" for file in listed]
    assert files[0] == FoundFile(files[0].id, 7, files[0].version, "0000000a", sigma)
    assert files[1] == FoundFile(files[1].id, -1, "", "0000000a", sigma), (
        "one that is gone is still input, to be refused"
    )
    assert "left out since the manifest there does not list them: mine.root" in caplog.text


def test_the_newest_manifest_counts(tmp_path: Path) -> None:
    put(tmp_path, "simulated/a.root", "simulated/b.root")
    for number, name in enumerate("ab", start=1):
        publish(tmp_path, OutputFile(path=f"simulated/{name}.root", bytes=7, checksum="0000000a"), number=number)
    assert ids(found(tmp_path)) == [f"qcd/{DAY}/simulated/b.root"]


def test_checksums_of_manifests_before_numbers_are_of_another_kind(tmp_path: Path) -> None:
    put(tmp_path, "qcd-000000.root")
    publish(tmp_path, OutputFile(path="qcd-000000.root", bytes=7, checksum="f" * 32), number=0)
    assert [(file.id, file.listed_checksum) for file in found(tmp_path)] == [(f"qcd/{DAY}/qcd-000000.root", "")]


def test_a_simulation_that_is_not_finished_is_no_input(tmp_path: Path) -> None:
    put(tmp_path, "simulated/qcd-000000-1f.root")
    with pytest.raises(InvalidInputError, match=rf"qcd/{DAY} holds a simulation that is not finished: run simulate.py"):
        found(tmp_path)


# --- which are gone ------------------------------------------------------------------------------------------------


def output_of(*sources: str) -> Manifest:
    units = [
        Unit(source=source, source_checksum="", entry_start=0, entry_stop=1, counts={}, outputs=())
        for source in sources
    ]
    return Manifest(stage="ingest", config_hash="1f", config={}, units=tuple(units), code_version="v1")


A, B, OF_TTBAR = f"qcd/{DAY}/a.root", f"qcd/{DAY}/b.root", f"ttbar/{DAY}/c.root"
OLD, NEW = f"qcd/{DAY}/simulated/old.root", f"qcd/{DAY}/simulated/new.root"


@pytest.mark.parametrize(
    ("sources", "there", "samples"),
    [
        ([], [A], ["qcd"]),
        ([A], [A, B], ["qcd"]),
        ([A, OF_TTBAR], [A], ["qcd"]),  # a sample that was not looked for
        ([OLD], [NEW], ["qcd"]),  # its manifest says so
    ],
)
def test_nothing_is_gone(sources: list[str], there: list[str], samples: list[str]) -> None:
    check_gone(output_of(*sources), [FoundFile(file_id, 7, "v1") for file_id in there], samples)
    check_gone(None, [], samples)


@pytest.mark.parametrize(
    ("sources", "there", "message"),
    [
        ([A, B], [A], rf"{B}; bring them back"),
        ([A, OF_TTBAR], [A], rf"{OF_TTBAR}; bring"),
        ([A], [NEW], rf"{A}; bring"),
        ([OLD], [A], rf"{OLD}; bring"),
        ([f"qcd/{DAY}/{number}.root" for number in range(5)], [A], r"/0.root, .*/1.root, .*/2.root and 2 more; bring"),
    ],
)
def test_inputs_that_are_gone_are_named(sources: list[str], there: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"are gone .*: .*{message}.* --drop-missing"):
        check_gone(output_of(*sources), [FoundFile(file_id, 7, "v1") for file_id in there], schema.SAMPLES)


def test_a_link_that_leads_nowhere_is_gone_too() -> None:
    with pytest.raises(InvalidInputError, match="are gone"):
        check_gone(output_of(A), [FoundFile(A, -1, "")], schema.SAMPLES)


# --- what is remembered --------------------------------------------------------------------------------------------


@pytest.fixture
def known(tmp_path: Path) -> SourceFile:
    file_id = f"qcd/{DAY}/a.root"
    return SourceFile(file_id, key_of(tmp_path / "raw") / file_id, 7, "v1", "0000000a", 12, "Muon", ("Event.Weight",))


def test_what_was_found_can_be_read_back(tmp_path: Path, known: SourceFile) -> None:
    write_known(key_of(tmp_path), key_of(tmp_path / "raw"), [known])
    assert read_known(key_of(tmp_path), key_of(tmp_path / "raw")) == {known.id: known}


def test_what_was_found_elsewhere_is_not_trusted(tmp_path: Path, known: SourceFile) -> None:
    write_known(key_of(tmp_path), key_of(tmp_path / "raw"), [known])
    assert read_known(key_of(tmp_path), key_of(tmp_path / "other")) == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"raw": "x"}', '{"files": {}}'])
def test_a_damaged_memory_is_forgotten(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / KNOWN_NAME).write_text(content.replace('"x"', f'"{tmp_path}"'))
    assert read_known(key_of(tmp_path), key_of(tmp_path)) == {}
    assert "cannot be read; inspecting all files again" in caplog.text


def test_a_memory_of_other_fields_is_forgotten(tmp_path: Path, known: SourceFile) -> None:
    write_known(key_of(tmp_path), key_of(tmp_path), [known])
    path = tmp_path / KNOWN_NAME
    path.write_text(path.read_text().replace("optional", "weighted"))
    assert read_known(key_of(tmp_path), key_of(tmp_path)) == {}


def test_nothing_known_is_no_reason_to_speak(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert read_known(key_of(tmp_path), key_of(tmp_path)) == {}
    assert caplog.text == ""


def test_a_file_is_still_the_same_by_size_version_and_what_the_simulation_made(known: SourceFile) -> None:
    file = FoundFile(known.id, 7, "v1")
    assert file.is_still(known)
    assert replace(file, listed_checksum="0000000a").is_still(known)
    for other in ({"size": 8}, {"version": "v2"}, {"listed_checksum": "0000000b"}):
        assert not replace(file, **other).is_still(known)
