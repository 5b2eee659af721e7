from pathlib import Path

from toposieve.io.content_folders import upload
from toposieve.io.manifests import check_listed
from toposieve.io.names import is_ours
from toposieve.io.store import Key


def upload_texts(tmp_path: Path, **texts: str) -> list[str]:
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    files = upload(tmp_path, texts, Key(str(tmp_path)) / "out")
    for file, text in zip(files, texts.values(), strict=True):
        assert check_listed(Key(str(tmp_path)) / "out", file).read_text() == text
    return [file.path for file in files]


def test_files_lie_together_under_their_names_where_a_sweep_finds_them(tmp_path: Path) -> None:
    one, two = upload_texts(tmp_path, one="1", two="2")
    assert one.rpartition("/")[2] == "one"
    assert one.partition("/")[0] == two.partition("/")[0]
    assert is_ours(one)


def test_the_same_content_has_the_same_place_and_other_content_another(tmp_path: Path) -> None:
    first = upload_texts(tmp_path, one="1", two="2")
    assert upload_texts(tmp_path, one="1", two="2") == first
    assert upload_texts(tmp_path, one="1", two="3")[0] != first[0]
    assert upload_texts(tmp_path, one="2", two="1")[0] != first[0]
