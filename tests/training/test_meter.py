import pytest

from toposieve.training.meter import LOG_SECONDS, Meter


def test_it_is_time_to_log_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    meter = Meter()
    assert not meter.is_due()
    now += LOG_SECONDS
    assert (meter.is_due(), meter.is_due()) == (True, False)
    assert meter.rate(10) == pytest.approx(10 / LOG_SECONDS)
    now += LOG_SECONDS / 2
    assert not meter.is_due()
