import errno
import pickle

import pytest

from toposieve.errors import InvalidInputError
from toposieve.simulation.failures import attempt, result_of


def full_disk(_task):
    raise OSError(errno.ENOSPC, "No space left on device", "a.root")


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


def test_bad_input_arrives_in_the_driver():
    outcome = attempt(bad_input)(None)
    with pytest.raises(InvalidInputError, match="lower the key pileup"):
        result_of(outcome)


def test_bugs_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        attempt(bug)(None)
