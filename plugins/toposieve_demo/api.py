"""A client for the few calls of Airflow's REST API that the local set-up needs. Standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

TIMEOUT_S = 120
"""A backfill of many days is created in one request."""

PAGE = 100
"""Entries of one answer: the most that Airflow gives by default."""

BUSY_TRIES = 5
"""Times that a request is sent which Airflow's SQLite refuses.

Airflow writes its audit log in the server's event loop. Where that write meets another request that has written and
still needs the loop in order to commit, both wait until SQLite gives up after 5 s, and the one in the loop is refused
before anything of it was done.
"""


class ApiError(Exception):
    """Airflow refused a request.

    Args:
        status: HTTP status.
        detail: What Airflow says about it.
    """

    def __init__(self, status: int, detail: str) -> None:
        """Keep the status beside the message."""
        self.status = status
        super().__init__(f"Airflow answers {status}: {detail}")


class DatabaseBusyError(ApiError):
    """Airflow's database refused, and nothing was done."""


class Api:
    """Airflow's REST API.

    Args:
        url: Address of the API server, without a trailing slash.
        user: User name.
        password: Its password.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        """Nothing is sent until the first call."""
        self.url = url
        self._login = {"username": user, "password": password}
        self._token: str | None = None

    def health(self) -> dict[str, Any] | None:
        """State of each component, or None while the server does not answer yet."""
        try:
            return dict(self._send("GET", "/api/v2/monitor/health", None, {}))
        except (ApiError, OSError):
            return None

    def get(self, path: str, **query: Any) -> Any:
        """GET a path below ``/api/v2``."""
        text = urllib.parse.urlencode(query, doseq=True)
        return self._call("GET", f"{path}?{text}" if text else path)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST to a path below ``/api/v2``."""
        return self._call("POST", path, body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """PATCH a path below ``/api/v2``."""
        return self._call("PATCH", path, body)

    def put(self, path: str) -> Any:
        """PUT to a path below ``/api/v2``."""
        return self._call("PUT", path)

    def set_pool(self, name: str, slots: int) -> None:
        """Make a pool, or give it this many slots."""
        body = {"slots": slots, "description": "made by the local set-up", "include_deferred": False}
        try:
            self.post("/pools", {"name": name, **body})
        except ApiError as error:
            if error.status != 409:
                raise
            self.patch(f"/pools/{name}", {"pool": name, **body})

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any], partition_key: str | None = None) -> None:
        """Start a run of a DAG."""
        body = {"dag_run_id": run_id, "conf": conf, "logical_date": None, "partition_key": partition_key}
        self.post(f"/dags/{dag_id}/dagRuns", body)

    def is_paused(self, dag_id: str) -> bool:
        """Whether a DAG is kept from running."""
        return bool(self.get(f"/dags/{dag_id}")["is_paused"])

    def pause(self, dag_id: str) -> None:
        """Keep a DAG from running."""
        self.patch(f"/dags/{dag_id}", {"is_paused": True})

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run."""
        self.patch(f"/dags/{dag_id}", {"is_paused": False})

    @contextmanager
    def unpaused(self, dag_id: str) -> Iterator[bool]:
        """Let a DAG run meanwhile, afterwards it is as before; gives whether it was paused."""
        was_paused = self.is_paused(dag_id)
        self.unpause(dag_id)
        try:
            yield was_paused
        finally:
            if was_paused:
                with suppress(ApiError, OSError):
                    self.pause(dag_id)

    def end_run(self, dag_id: str, run_id: str, **note: str) -> None:
        """Close a run as failed, with a ``note`` if one is given."""
        self.patch(f"/dags/{dag_id}/dagRuns/{_quote(run_id)}", {"state": "failed", **note})

    def runs(self, dag_id: str, **query: Any) -> list[dict[str, Any]]:
        """Runs of a DAG that fit the query."""
        return self._pages(f"/dags/{dag_id}/dagRuns", "dag_runs", **query)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a run: queued, running, success or failed."""
        return str(self.get(f"/dags/{dag_id}/dagRuns/{_quote(run_id)}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Task instances of a run."""
        return self._pages(f"/dags/{dag_id}/dagRuns/{_quote(run_id)}/taskInstances", "task_instances")

    def _pages(self, path: str, key: str, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=PAGE, offset=len(found), order_by="id", **query)
            found += page[key]
            if len(found) >= page["total_entries"] or not page[key]:
                return found

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if self._token is None:
            self._token = self._send("POST", "/auth/token", self._login, {})["access_token"]
        headers = {"Authorization": f"Bearer {self._token}"}
        for _ in range(BUSY_TRIES - 1):
            with suppress(DatabaseBusyError):
                return self._send(method, f"/api/v2{path}", body, headers)
        return self._send(method, f"/api/v2{path}", body, headers)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json", **headers}
        )
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                detail = _detail(error.read())
                busy = error.code == 500 and "Database error" in detail
                raise (DatabaseBusyError if busy else ApiError)(error.code, detail) from None


# The server is on this machine: a proxy from the environment must not come between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _detail(content: bytes) -> str:
    try:
        return str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")
