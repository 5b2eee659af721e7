from threading import Event

import pytest

from toposieve.serving.hanging import Hung, finished


def test_a_call_gives_its_result_or_its_error():
    assert finished(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        finished(lambda: 1 // 0)


def test_one_that_does_not_come_back_is_given_up():
    ended = Event()
    with pytest.raises(Hung):
        finished(ended.wait, 0.01)
    ended.set()
