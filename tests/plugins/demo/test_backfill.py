import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from toposieve_demo import backfill
from toposieve_demo.airflow_home import AirflowHome
from toposieve_demo.api import Api, ApiError

CREATED = "2026-04-01T12:00:00Z"
DAYS = ["2026-01-01", "2026-01-02"]


class FakeApi(Api):
    """An Airflow whose backfill has these runs, and whose DAGs may be paused."""

    def __init__(self, states: dict[str, str], paused: bool = True) -> None:
        self.states = states
        self.paused = paused
        self.nightly = [{"dag_run_id": "scheduled__1", "queued_at": "2026-04-01T12:00:01Z"}]
        self.sent: list[tuple[str, str, Any]] = []

    def health(self) -> dict[str, Any]:
        return {}

    def get(self, path: str, **query: Any) -> Any:
        if path == "/dags":
            return {"dags": [{"dag_id": backfill.DAG_ID}]}
        if path.endswith("/taskInstances"):
            return {"task_instances": [], "total_entries": 0}
        if path.endswith("/dagRuns"):
            runs = self.nightly if query["run_type"] == "scheduled" else self.backfilled()
            return {"dag_runs": runs, "total_entries": len(runs)}
        return {"is_paused": self.paused}

    def backfilled(self) -> list[dict[str, Any]]:
        return [{"dag_run_id": f"b_{day}", "partition_key": day, "state": s} for day, s in self.states.items()]

    def post(self, path: str, body: Any) -> Any:
        self.sent.append(("post", path, body))
        return {"id": 7, "created_at": CREATED}

    def patch(self, path: str, body: Any) -> None:
        if body.get("state") == "failed":
            self.nightly.clear()
        self.sent.append(("patch", path, body))

    def put(self, path: str) -> None:
        self.sent.append(("put", path, None))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backfill, "POLL_S", 0.0)

    def run(*arguments: str, api: FakeApi | None = None) -> int:
        if api is not None:
            monkeypatch.setattr(AirflowHome, "api", lambda self: api)
        home = ["--home", str(tmp_path / "home"), "--port", "1"]
        return backfill.main(backfill.arg_parser().parse_args([*home, *arguments]))

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Params of every run of the whole chain."""
    runs: list[dict[str, Any]] = []
    monkeypatch.setattr(
        backfill, "run_chain", lambda airflow, profile, conf, prefix: runs.append(conf) or "reports/all"
    )
    return runs


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (("", ""), "FROM: '' is not a day"),
        (("2026-01-01", "2026-01-32"), "TO: '2026-01-32' is not a day"),
        (("2026-01-02", "2026-01-01"), "TO 2026-01-01 is before FROM 2026-01-02"),
        (
            ("2026-01-01", (datetime.now(UTC) + timedelta(days=2)).date().isoformat()),
            r"TO \S+ is in the future: the last day can be today",
        ),
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


def test_days_that_had_a_run_before_get_another(run, capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeApi(dict.fromkeys(DAYS, "success"))
    assert run(*DAYS, api=api) == 0
    (body,) = [body for how, path, body in api.sent if (how, path) == ("post", "/backfills")]
    assert body["reprocess_behavior"] == "completed"
    assert (body["from_date"], body["to_date"]) == ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    assert "all 2 days are done" in capsys.readouterr().out
    assert ("put", "/backfills/7/cancel", None) in api.sent  # so that the next one need not wait for the scheduler


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({DAYS[0]: "success", DAYS[1]: "failed"}, f"of 2 days 1 failed: {DAYS[1]}; run the same command again"),
        ({DAYS[0]: "success"}, f"of 2 days another run is at {DAYS[1]}; run the same"),
    ],
)
def test_without_all_days_nothing_is_trained(
    run, trained: Sequence[Any], states: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*DAYS, "--train", api=FakeApi(states)) == 1
    assert message in capsys.readouterr().err
    assert trained == []


def test_training_starts_once_for_the_range_and_only_if_asked(run, trained: Sequence[Any]) -> None:
    api = FakeApi(dict.fromkeys(DAYS, "success"))
    assert run(*DAYS, api=api) == 0
    assert trained == []
    assert run(*DAYS, "--train", api=api) == 0
    assert trained == [{"partition_start": DAYS[0], "partition_end": DAYS[1]}]


@pytest.mark.parametrize("paused", [True, False])
def test_a_paused_dag_is_paused_again_and_its_nightly_run_ended(run, paused: bool) -> None:
    api = FakeApi(dict.fromkeys(DAYS, "success"), paused)
    assert run(*DAYS, api=api) == 0
    nightly = f"/dags/{backfill.DAG_ID}/dagRuns/scheduled__1"
    ended = [body["state"] for how, path, body in api.sent if path == nightly]
    assert ended == (["failed"] if paused else [])
    switched = [body["is_paused"] for how, path, body in api.sent if path == f"/dags/{backfill.DAG_ID}"]
    assert switched == ([False, True] if paused else [False])


def test_a_nightly_run_of_before_stays(run) -> None:
    api = FakeApi(dict.fromkeys(DAYS, "success"))
    api.nightly = [{"dag_run_id": "scheduled__0", "queued_at": "2026-03-31T00:00:00Z"}]
    assert run(*DAYS, api=api) == 0
    assert not [sent for sent in api.sent if "scheduled" in sent[1]]


def test_an_interrupted_backfill_is_given_up_and_the_dag_paused_again(run, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(FakeApi):
        def backfilled(self) -> list[dict[str, Any]]:
            raise KeyboardInterrupt

    api = Interrupted({})
    assert run(*DAYS, api=api) == 130
    assert api.sent[-1] == ("put", "/backfills/7/cancel", None)
    assert ("patch", f"/dags/{backfill.DAG_ID}", {"is_paused": True}) in api.sent
    assert "the same command does the rest" in capsys.readouterr().err


def test_another_backfill_that_is_under_way_is_named(run, capsys: pytest.CaptureFixture[str]) -> None:
    class Occupied(FakeApi):
        def post(self, path: str, body: Any) -> Any:
            raise ApiError(409, "There is already a running backfill")

    api = Occupied({})
    assert run(*DAYS, api=api) == 1
    assert "another backfill of build_dataset is under way: wait for its end" in capsys.readouterr().err
    assert api.sent == []


def test_some_failures_of_the_api_are_borne_and_many_are_not(run, capsys: pytest.CaptureFixture[str]) -> None:
    class Busy(FakeApi):
        failures = backfill.API_TRIES - 1

        def backfilled(self) -> list[dict[str, Any]]:
            self.failures -= 1
            if self.failures >= 0:
                raise TimeoutError("timed out")
            return super().backfilled()

    api = Busy(dict.fromkeys(DAYS, "success"))
    assert run(*DAYS, api=api) == 0
    api.failures = 2 * backfill.API_TRIES
    assert run(*DAYS, api=api) == 1
    assert "in a row: timed out" in capsys.readouterr().err
