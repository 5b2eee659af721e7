import errno
import pickle

import pytest

from toposieve.errors import InvalidInputError
from toposieve.simulation.failures import attempt, result_of


def full_disk(_task):
    raise OSError(errno.ENOSPC, "No space left on device", "a.root")


def short_write(_task):
    raise OSError("4096 requested and 0 written")


def bad_input(_task):
    raise InvalidInputError("lower the key pileup")


def bug(_task):
    raise ZeroDivisionError("a bug")


def test_results_pass_through():
    assert result_of(attempt(str)(7)) == "7"


def test_a_full_disk_arrives_in_the_driver():
    outcome = pickle.loads(pickle.dumps(attempt(full_disk)(None)))
    with pytest.raises(OSError, match="No space left") as caught:
        result_of(outcome)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == "a.root"


def test_an_error_of_the_file_system_without_a_number_is_no_bad_input():
    with pytest.raises(OSError, match="4096 requested and 0 written"):
        result_of(attempt(short_write)(None))


def test_bad_input_arrives_in_the_driver():
    outcome = attempt(bad_input)(None)
    with pytest.raises(InvalidInputError, match="lower the key pileup"):
        result_of(outcome)


def test_bugs_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        attempt(bug)(None)
