import re
from pathlib import Path

import pytest

from toposieve_airflow.local import backfill


@pytest.fixture
def run(tmp_path: Path):
    def run(*days: str) -> int:
        home = ["--home", str(tmp_path / "home"), "--port", "1"]
        return backfill.main(backfill.arg_parser().parse_args([*home, *days]))

    return run


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (("", ""), "partition_start: '' is not a day"),
        (("2026-01-02", "2026-01-01"), "is before"),
        (("2026-01-01", "2026-01-02"), "no Airflow answers on http://127.0.0.1:1: .* make airflow"),
    ],
)
def test_what_cannot_start_is_refused_with_the_remedy(
    run, days: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*days) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error)
