"""Print a small object, wherever it lies: a report, for Airflow's UI where no volume of the data is mounted.

    python -m toposieve.read_object s3://lhc/toposieve/reports/mine/report.html

Exits with 0 after the object's bytes, with 2 where the store refuses or has no such object, and with 1 where it cannot
be reached; the error is one sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from toposieve.cli import RETRY_EXIT_CODE, print_error
from toposieve.errors import INVALID_INPUT_EXIT_CODE, InvalidInputError, UnavailableError
from toposieve.io.store import root_key


def exit_code(work: Callable[[], None]) -> int:
    """Do some reading; says in one sentence what goes wrong, and returns the exit code."""
    try:
        work()
    except InvalidInputError as error:
        print_error(str(error))
        return INVALID_INPUT_EXIT_CODE
    except UnavailableError as error:
        print_error(str(error))
        return RETRY_EXIT_CODE
    return 0


def print_object(location: str) -> None:
    """Print an object.

    Raises:
        InvalidInputError: It is not there, or the store refuses.
        UnavailableError: The store cannot be reached.
    """
    folder, _, name = location.rpartition("/")
    try:
        content = (root_key("object", folder) / name).read_bytes()
    except FileNotFoundError:
        raise InvalidInputError(f"{location} is not there") from None
    sys.stdout.buffer.write(content)


def main(arguments: list[str]) -> int:
    """Print the object that the only argument names; returns the exit code."""
    return exit_code(lambda: print_object(*arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
