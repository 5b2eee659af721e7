from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import pytest

from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io import manifests
from toposieve.io.manifests import (
    MANIFEST_NAME,
    STAGING_NAME,
    Manifest,
    OutputFile,
    Publication,
    Unit,
    check_same_config,
    describe_file,
    fingerprint,
    gather_notes,
    is_up_to_date,
    read_manifest,
    read_manifest_if_any,
    reusable_units,
    verify_file,
)


def unit(source: str, *outputs: OutputFile, notes: tuple[str, ...] = ()) -> Unit:
    return Unit(
        source=source,
        source_checksum="00",
        entry_start=0,
        entry_stop=3,
        counts={"events": 3},
        outputs=outputs,
        notes=notes,
    )


def manifest_of(*units: Unit, config_hash: str = "1f", code_version: str = "v1") -> Manifest:
    return Manifest(stage="test", config_hash=config_hash, config={}, units=units, code_version=code_version)


def stage(publication: Publication, name: str, content: str = "content") -> OutputFile:
    path = publication.staging / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return describe_file(path, publication.staging)


def publish(directory: Path, names: dict[str, str]) -> Manifest:
    with Publication(directory) as publication:
        files = [stage(publication, name, content) for name, content in names.items()]
        manifest = manifest_of(*(unit(file.path, file) for file in files))
        publication.publish(manifest, files)
    return manifest


def names_in(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_publishes_files_then_manifest_and_leaves_no_staging(tmp_path: Path) -> None:
    written = publish(tmp_path / "out", {"a.parquet": "a", "train/b.parquet": "b"})
    assert names_in(tmp_path / "out") == ["a.parquet", MANIFEST_NAME, "train/b.parquet"]
    assert read_manifest(tmp_path / "out") == written
    assert not (tmp_path / "out" / STAGING_NAME).exists()
    assert written.total("events") == 6


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        publish(tmp_path / name, {"a.parquet": "a"})
    one, two = ((tmp_path / name / MANIFEST_NAME).read_bytes() for name in ("one", "two"))
    assert one == two


def test_removes_what_the_last_manifest_listed_but_no_other_file(tmp_path: Path) -> None:
    publish(tmp_path, {"a.root": "a", "b.root": "b"})
    (tmp_path / "mine.root").write_text("put here by hand")
    publish(tmp_path, {"b.root": "b2"})
    assert names_in(tmp_path) == ["b.root", MANIFEST_NAME, "mine.root"]
    assert (tmp_path / "b.root").read_text() == "b2"


def test_the_run_that_publishes_second_is_refused(tmp_path: Path) -> None:
    with Publication(tmp_path) as loser:
        file = stage(loser, "a.parquet", "loser")
        publish(tmp_path, {"a.parquet": "winner"})
        with pytest.raises(ConflictError, match=r"another run published .* run again"):
            loser.publish(manifest_of(unit("a", file)), [file])
    assert (tmp_path / "a.parquet").read_text() == "winner"
    assert names_in(tmp_path) == ["a.parquet", MANIFEST_NAME]


def test_a_manifest_published_between_reading_and_opening_is_noticed(tmp_path: Path) -> None:
    publication = Publication(tmp_path)
    assert publication.previous is None
    publish(tmp_path, {"a.parquet": "a"})
    with publication, pytest.raises(ConflictError):
        publication.publish(manifest_of(), [])


def test_sweeps_the_staging_of_a_killed_run_but_not_of_a_living_one(tmp_path: Path) -> None:
    killed = tmp_path / STAGING_NAME / "killed"
    killed.mkdir(parents=True)
    (killed / "half.parquet").write_text("half")
    with Publication(tmp_path) as living, Publication(tmp_path) as other:
        assert not killed.exists()
        assert living.staging.is_dir()
        assert other.staging.is_dir()
    assert not (tmp_path / STAGING_NAME).exists()


def test_staging_is_made_and_locked_while_no_other_run_can_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run that swept between another's mkdir and its lock would take the new directory away: both hold this lock.
    held = []
    real_mkdir = Path.mkdir

    def mkdir(self: Path, *args: int, **kwargs: bool) -> None:
        if self.parent.name == STAGING_NAME:
            descriptor = os.open(tmp_path, os.O_RDONLY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(descriptor)
            held.append(self)
        real_mkdir(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with Publication(tmp_path) as publication:
        assert set(held) == {publication.staging}


def test_a_failed_run_leaves_the_old_output(tmp_path: Path) -> None:
    publish(tmp_path, {"a.parquet": "a"})
    before = (tmp_path / MANIFEST_NAME).read_bytes()
    with suppress(ZeroDivisionError), Publication(tmp_path) as publication:
        stage(publication, "b.parquet")
        _ = 1 / 0
    assert names_in(tmp_path) == ["a.parquet", MANIFEST_NAME]
    assert (tmp_path / MANIFEST_NAME).read_bytes() == before


def test_a_full_disk_while_the_manifest_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, {"a.parquet": "a"})
    before = (tmp_path / MANIFEST_NAME).read_bytes()

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(manifests.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path, {"b.parquet": "b"})
    assert (tmp_path / MANIFEST_NAME).read_bytes() == before
    assert verify_file(tmp_path, read_manifest(tmp_path).units[0].outputs[0])


def test_replace_file_leaves_no_temporary_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    manifests.replace_file(tmp_path / "cutflow.json", b"old")
    monkeypatch.setattr(manifests.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        manifests.replace_file(tmp_path / "cutflow.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["cutflow.json"]
    assert (tmp_path / "cutflow.json").read_bytes() == b"old"


def test_missing_manifest_names_the_remedy(tmp_path: Path) -> None:
    assert read_manifest_if_any(tmp_path) is None
    with pytest.raises(InvalidInputError, match=r"manifest.json is missing: run the stage"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"stage": "test"}', '{"unknown": 1}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(content)
    with pytest.raises(InvalidInputError, match=r"is not a manifest .*delete it and run again"):
        read_manifest(tmp_path)
    with pytest.raises(InvalidInputError, match="is not a manifest"):
        Publication(tmp_path)


def test_an_unreadable_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).mkdir()
    with pytest.raises(InvalidInputError, match=r"cannot be read \(Is a directory\)"):
        read_manifest(tmp_path)


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InvalidInputError, match=r"cannot be made .*choose another --base"),
        Publication(tmp_path / "file" / "out"),
    ):
        pass


def test_an_output_folder_that_is_read_only_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_mkdir = Path.mkdir

    def mkdir(self: Path, *args: int, **kwargs: bool) -> None:
        if self != tmp_path:  # root may write anywhere, so the permission itself cannot be taken away
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        real_mkdir(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with (
        pytest.raises(InvalidInputError, match=r"cannot be made \(Permission denied\).*mend its permissions"),
        Publication(tmp_path),
    ):
        pass


def test_verify_file_finds_missing_altered_and_cut_files(tmp_path: Path) -> None:
    file = publish(tmp_path, {"a.parquet": "content"}).units[0].outputs[0]
    path = tmp_path / file.path
    assert verify_file(tmp_path, file) == path
    for damaged in ("contenT", "conten"):
        path.write_text(damaged)
        with pytest.raises(InvalidInputError, match=r"altered or cut short.*run the stage"):
            verify_file(tmp_path, file)
    path.unlink()
    with pytest.raises(InvalidInputError, match=r"listed in manifest\.json but missing"):
        verify_file(tmp_path, file)


def test_reusable_units_are_those_with_whole_files_and_the_same_configuration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written = publish(tmp_path, {"a.parquet": "a", "b.parquet": "b"})
    assert reusable_units(tmp_path, written, "1f") == list(written.units)
    assert reusable_units(tmp_path, written, "other") == []
    assert reusable_units(tmp_path, None, "1f") == []
    (tmp_path / "a.parquet").unlink()
    assert reusable_units(tmp_path, written, "1f") == [written.units[1]]
    assert "doing it again" in caplog.text


def test_output_of_another_configuration_needs_replace(tmp_path: Path) -> None:
    check_same_config(tmp_path, None, "2e", replace=False)
    check_same_config(tmp_path, manifest_of(), "1f", replace=False)
    check_same_config(tmp_path, manifest_of(), "2e", replace=True)
    with pytest.raises(InvalidInputError, match=r"another configuration \(1f, now 2e\): pass --replace"):
        check_same_config(tmp_path, manifest_of(), "2e", replace=False)


def test_only_the_version_of_the_code_does_not_make_output_stale() -> None:
    old = manifest_of(unit("a"))
    assert is_up_to_date(old, manifest_of(unit("a"), code_version="v2"))
    assert not is_up_to_date(old, manifest_of(unit("b")))
    assert not is_up_to_date(None, old)


def test_a_fingerprint_changes_with_all_but_the_version_of_the_code() -> None:
    known = fingerprint(manifest_of(unit("a")))
    assert len(known) == 32
    assert fingerprint(manifest_of(unit("a"), code_version="v2")) == known
    assert fingerprint(manifest_of(unit("b"))) != known
    assert fingerprint(manifest_of(unit("a"), config_hash="2e")) != known


def test_notes_name_each_input_once() -> None:
    assert gather_notes([unit("b", notes=("x",)), unit("a", notes=("x", "y")), unit("b", notes=("x",))]) == (
        "a: x",
        "a: y",
        "b: x",
    )
