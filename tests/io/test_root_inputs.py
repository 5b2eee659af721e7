from __future__ import annotations

from pathlib import Path

import pytest

from toposieve.errors import InvalidInputError
from toposieve.io.root_inputs import OPENING_BYTES, RootFile, find_root_files, share_out
from toposieve.io.store import Key

TREE = [
    "qcd/2026-01-01/1.root",
    "qcd/2026-01-01/2.root",
    "qcd/2026-01-01/._1.root",
    "qcd/2026-01-01/manifest.json",
    "qcd/2026-01-02/1.root",
    "qcd/2026-01-02/deep/3.root",
    "ttbar/2026-01-01/1.root",
    "_pileup/2026-01-01/1.root",
    ".trash/2026-01-01/1.root",
    "odd [1] +%.root",
]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for name in TREE:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234")
    return tmp_path


def found(raw: Path, *patterns: str) -> list[str]:
    files = find_root_files([f"{raw}/{pattern}".rstrip("/") for pattern in patterns])
    assert {file.size for file in files} == {4}
    return [str(file.key).removeprefix(f"{raw}/") for file in files]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["qcd/2026-01-01/1.root"], ["qcd/2026-01-01/1.root"]),
        (["*/2026-01-01/*.root"], ["qcd/2026-01-01/1.root", "qcd/2026-01-01/2.root", "ttbar/2026-01-01/1.root"]),
        (["qcd/2026-01-0?/[13].root"], ["qcd/2026-01-01/1.root", "qcd/2026-01-02/1.root"]),
        (["qcd/2026-01-02"], ["qcd/2026-01-02/1.root", "qcd/2026-01-02/deep/3.root"]),
        (["qcd/2026-01-02/"], ["qcd/2026-01-02/1.root", "qcd/2026-01-02/deep/3.root"]),
        (["tt*"], ["ttbar/2026-01-01/1.root"]),
        (["_pile*/*/*.root"], ["_pileup/2026-01-01/1.root"]),
        (["qcd/2026-01-01/._1.root"], ["qcd/2026-01-01/._1.root"]),
        (["odd [1] +%.root"], ["odd [1] +%.root"]),
        (["qcd/2026-01-01/*.json"], ["qcd/2026-01-01/manifest.json"]),
        (
            ["ttbar", "qcd/*/1.root", "ttbar/*/*"],
            ["qcd/2026-01-01/1.root", "qcd/2026-01-02/1.root", "ttbar/2026-01-01/1.root"],
        ),
        (["*/2026-01-02/*.root"], ["qcd/2026-01-02/1.root"]),
    ],
)
def test_finds_what_is_meant(raw: Path, patterns: list[str], expected: list[str]) -> None:
    assert found(raw, *patterns) == expected


def test_hidden_files_are_no_input(raw: Path) -> None:
    assert found(raw, "") == sorted(
        name for name in TREE if name.endswith(".root") and "._" not in name and name[0] not in "._"
    )


def test_relative_paths_start_where_we_are(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(raw / "qcd")
    assert [file.key for file in find_root_files(["2026-01-01/1.root", "*-02/1.root"])] == [
        Key(f"{raw}/qcd/2026-01-01", "1.root"),
        Key(f"{raw}/qcd", "2026-01-02/1.root"),
    ]


@pytest.mark.parametrize("pattern", ["wjets", "*/2026-01-03/*.root", "qcd/2026-01-01/9.root"])
def test_says_where_nothing_is(raw: Path, pattern: str) -> None:
    with pytest.raises(
        InvalidInputError, match=r"^no ROOT files \(\*\.root\) in .*: mend the path, or put some there$"
    ) as e:
        find_root_files([str(raw / "qcd"), str(raw / pattern)])
    assert pattern in str(e.value)


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="unknown scheme gopher://"):
        find_root_files(["gopher://lhc/raw/*.root"])


# --- sharing out ---------------------------------------------------------------------------------------------------


def files(*sizes: int) -> list[RootFile]:
    return [RootFile(Key("/raw", f"{number}.root"), size) for number, size in enumerate(sizes)]


def shared(sizes: list[int], share: float, part_bytes: int, *, whole: bool = False) -> list[list[tuple[str, int, int]]]:
    tasks = share_out(files(*sizes), share, part_bytes, whole=whole)
    return [[(piece.file.key.path, piece.index, piece.parts) for piece in task] for task in tasks]


MB = 1 << 20


def test_big_files_are_cut() -> None:
    assert shared([250 * MB], 0.5, 64 * MB) == [[("0.root", 0, 2)], [("0.root", 1, 2)]]
    assert len(shared([1000 * MB], 1, 64 * MB)) == 16


def test_a_file_stays_whole_where_asked() -> None:
    assert shared([1000 * MB], 1, 64 * MB, whole=True) == [[("0.root", 0, 1)]]


def test_small_files_go_together() -> None:
    assert shared([20 * MB] * 4, 1, 48 * MB) == [
        [("0.root", 0, 1), ("1.root", 0, 1)],
        [("2.root", 0, 1), ("3.root", 0, 1)],
    ]


def test_opening_a_file_is_work_too() -> None:
    tasks = shared([1] * 1000, 1, 64 * MB)
    assert max(map(len, tasks)) == 64 * MB // OPENING_BYTES
    assert sum(map(len, tasks)) == 1000


@pytest.mark.parametrize("total", [0, 1, 2, 5, 1000])
def test_pieces_cover_each_entry_once(total: int) -> None:
    pieces = [piece for task in share_out(files(100), 1, 30) for piece in task]
    assert len(pieces) == 4
    entries = [entry for piece in pieces for entry in range(*piece.entries(total))]
    assert entries == list(range(total))
