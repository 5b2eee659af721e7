import urllib.error
import urllib.request

import pytest

from toposieve.serving.metrics import ALIVE_SECONDS, Endpoint, Metrics


def ask(endpoint, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def metrics(clock):
    return Metrics(lambda: clock[0])


def test_numbers_are_shown_as_prometheus_reads_them(metrics):
    metrics.count(3, None, 2)
    metrics.count(None, "cut short", 1)
    metrics.set_lag({0: 5, 1: 7})
    metrics.set_lag({1: 6})
    with Endpoint(metrics, 0) as endpoint:
        status, text = ask(endpoint, "/metrics")
    assert status == 200
    assert 'toposieve_decisions_total{version="3"} 2.0' in text
    assert 'toposieve_refused_total{fault="cut short"} 1.0' in text
    assert 'toposieve_lag_messages{partition="1"} 6.0' in text
    assert 'partition="0"' not in text, "it is another's by now"


def test_a_process_is_healthy_while_its_loop_turns_and_ready_while_brokers_answer(metrics, clock):
    with Endpoint(metrics, 0) as endpoint:
        assert ask(endpoint, "/health") == (200, "yes\n")
        assert ask(endpoint, "/ready") == (503, "no\n")
        metrics.is_ready = True
        assert ask(endpoint, "/ready") == (200, "yes\n")
        clock[0] += ALIVE_SECONDS
        assert ask(endpoint, "/health") == (503, "no\n")
        metrics.turn()
        assert ask(endpoint, "/health") == (200, "yes\n")
        assert ask(endpoint, "/else")[0] == 404
