from collections.abc import Callable

import pytest

from toposieve_airflow.runs.script import MOST_BYTES, ScriptError, read_script

SCRIPT = "print('up')\n"
SECRET = "marker91ab"


def test_the_limit_is_that_of_script_and_requirements_together(write: Callable[..., str]) -> None:
    script, half = write(b"#" * (MOST_BYTES // 2)), "#" * (MOST_BYTES // 2)
    assert read_script(script, requirements=write(half, "needs.txt"))
    with pytest.raises(ScriptError, match=r"mine.py and requirements .*needs.txt together are larger than the 1 MiB"):
        read_script(script, requirements=write(half + "#", "needs.txt"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"TOKEN {SECRET}", "line 2 is not NAME=VALUE"),
        (f"export TOKEN={SECRET}", "line 2 is not NAME=VALUE"),
        ("TF_CONFIG={}", "line 2 sets TF_CONFIG, which every worker is given"),
    ],
)
def test_a_wrong_line_of_an_environment_file_is_named_and_not_shown(
    write: Callable[..., str], line: str, message: str
) -> None:
    with pytest.raises(ScriptError, match=message) as caught:
        read_script(write(SCRIPT), environment_file=write(f"A=1\n{line}\n", "env"))
    assert SECRET not in str(caught.value)
