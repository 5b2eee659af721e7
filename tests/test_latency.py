import logging

import pytest

from support.evaluation_data import base_key
from toposieve import latency


class Clock:
    """Goes on by what a call is said to take."""

    def __init__(self):
        self.now = 0.0
        self.calls = 0

    def __call__(self):
        return self.now

    def taking(self, seconds):
        def call():
            self.now += seconds(self.calls) if callable(seconds) else seconds
            self.calls += 1

        return call


def test_each_batch_has_its_own_quantiles():
    clock = Clock()
    one, many = latency.measure({1: clock.taking(0.001), 1024: clock.taking(0.004)}, clock)
    assert one == {"batch": 1, "p50": pytest.approx(0.001), "p99": pytest.approx(0.001)}
    assert many == {"batch": 1024, "p50": pytest.approx(0.004), "p99": pytest.approx(0.004)}
    assert clock.now <= 2 * (latency.ROUNDS * latency.ROUND_SECONDS) + 0.1


def test_slow_calls_show_in_the_tail_but_not_in_the_median():
    clock = Clock()
    [found] = latency.measure({1: clock.taking(lambda call: 0.001 if call % 20 else 0.01)}, clock)
    assert found["p50"] == pytest.approx(0.001)
    assert found["p99"] == pytest.approx(0.01)


def test_a_disturbed_round_does_not_count():
    clock = Clock()
    [found] = latency.measure({1: clock.taking(lambda call: 5.0 if call == 30 else 0.01)}, clock)
    assert found["p99"] == pytest.approx(0.01)


def test_the_first_call_only_warms_up():
    clock = Clock()
    [found] = latency.measure({32: clock.taking(lambda call: 0.2 if call else 9.0)}, clock)
    assert found == {"batch": 32, "p50": pytest.approx(0.2), "p99": pytest.approx(0.2)}
    assert clock.calls == 1 + latency.ROUNDS


def test_it_is_kept_beside_the_scores(tmp_path, caplog):
    folder = base_key(tmp_path)
    assert latency.read_latency(folder) is None
    latency.write_latency(folder, [{"batch": 1, "p50": 0.5, "p99": 0.75}])
    assert latency.read_latency(folder) == [{"batch": 1, "p50": 0.5, "p99": 0.75}]
    (tmp_path / latency.LATENCY_NAME).write_text("[{")
    with caplog.at_level(logging.WARNING):
        assert latency.read_latency(folder) is None
    assert "is no latency" in caplog.text
