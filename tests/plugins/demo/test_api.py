import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from toposieve_demo.api import BUSY_TRIES, Api, ApiError, DatabaseBusyError

TASKS = 250


class FakeAirflow(BaseHTTPRequestHandler):
    """Remembers requests; knows one user, and a pool called ``old``."""

    requests: list[tuple[str, str, Any, str | None]]

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.requests.append((self.command, self.path, body, self.headers.get("Authorization")))
        status, content = self.route(body)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def route(self, body: Any) -> tuple[int, Any]:
        if self.path == "/auth/token":
            return (201, {"access_token": "abc"}) if body["password"] == "right" else (401, {"detail": "who?"})
        if self.command == "POST" and self.path == "/api/v2/pools" and body["name"] == "old":
            return 409, {"detail": "exists"}
        if (tries := re.search(r"/busy/(\d+)$", self.path)) and int(tries[1]) > self.count(self.path):
            return 500, {"detail": {"reason": "Database error", "statement": "hidden"}}
        if self.path.endswith("/bad"):
            return 400, {"detail": "Invalid input for param workers"}
        if "/taskInstances?" in self.path:
            return 200, self.page(TASKS)
        return 200, {"state": "running", "scheduler": {"status": "healthy"}}

    def count(self, path: str) -> int:
        """How often it was asked before."""
        return sum(asked == path for _, asked, *_ in self.requests) - 1

    def page(self, tasks: int) -> dict[str, Any]:
        """The tasks that are asked for, at most 100."""
        query = parse_qs(urlsplit(self.path).query)
        offset, limit = int(query["offset"][0]), min(int(query["limit"][0]), 100)
        numbers = range(tasks)[offset : offset + limit]
        return {"task_instances": [{"map_index": number} for number in numbers], "total_entries": tasks}

    do_GET = do_POST = do_PATCH = do_PUT = answer

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    FakeAirflow.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeAirflow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def api(server: ThreadingHTTPServer) -> Api:
    return Api(f"http://127.0.0.1:{server.server_port}", "admin", "right")


def test_logs_in_once(api: Api) -> None:
    api.get("/dags")
    api.get("/dags", limit=3)
    paths = [(method, path, token) for method, path, _, token in FakeAirflow.requests]
    assert paths == [
        ("POST", "/auth/token", None),
        ("GET", "/api/v2/dags", "Bearer abc"),
        ("GET", "/api/v2/dags?limit=3", "Bearer abc"),
    ]


def test_trigger_sends_params_and_partition_key(api: Api) -> None:
    api.trigger("build_dataset", "r", {"replace": True}, partition_key="2026-01-01")
    method, path, body, _ = FakeAirflow.requests[-1]
    assert (method, path) == ("POST", "/api/v2/dags/build_dataset/dagRuns")
    assert (body["conf"], body["partition_key"], body["logical_date"]) == ({"replace": True}, "2026-01-01", None)


def test_names_of_runs_are_quoted(api: Api) -> None:
    assert api.run_state("d", "scheduled__2026-01-01T00:00:00+00:00") == "running"
    assert FakeAirflow.requests[-1][1].endswith("scheduled__2026-01-01T00%3A00%3A00%2B00%3A00")


@pytest.mark.parametrize(("pool", "method"), [("new", "POST"), ("old", "PATCH")])
def test_pools_are_made_or_changed(api: Api, pool: str, method: str) -> None:
    api.set_pool(pool, 3)
    assert FakeAirflow.requests[-1][0] == method
    assert FakeAirflow.requests[-1][2]["slots"] == 3


def test_tasks_of_long_runs_come_in_pages(api: Api) -> None:
    assert [task["map_index"] for task in api.tasks("d", "r")] == list(range(TASKS))


def test_a_run_is_ended_with_a_note(api: Api) -> None:
    api.end_run("d", "scheduled__2026-01-01T00:00:00+00:00", note="why")
    assert FakeAirflow.requests[-1][0] == "PATCH"
    assert FakeAirflow.requests[-1][2] == {"state": "failed", "note": "why"}


def test_refusal_says_why(api: Api) -> None:
    with pytest.raises(ApiError, match="400: Invalid input for param workers"):
        api.post("/bad", {})


def test_what_the_database_refuses_is_asked_again(api: Api) -> None:
    assert api.patch(f"/busy/{BUSY_TRIES - 1}", {"is_paused": False})["state"] == "running"


def test_a_database_that_always_refuses_is_said(api: Api) -> None:
    with pytest.raises(DatabaseBusyError, match=r"500: .*Database error"):
        api.patch(f"/busy/{BUSY_TRIES}", {"is_paused": False})
    assert sum(path.endswith(f"/busy/{BUSY_TRIES}") for _, path, *_ in FakeAirflow.requests) == BUSY_TRIES


def test_wrong_password(server: ThreadingHTTPServer) -> None:
    with pytest.raises(ApiError, match="who"):
        Api(f"http://127.0.0.1:{server.server_port}", "admin", "wrong").get("/dags")


def test_health(api: Api, server: ThreadingHTTPServer) -> None:
    assert (api.health() or {})["scheduler"]["status"] == "healthy"
    assert Api("http://127.0.0.1:1", "a", "b").health() is None
