"""Gangs of tiny pods that end well, and what they cost."""

import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.rest import RESTClientObject

from support.airflow_environment import CONFIG_FOLDER
from toposieve_airflow.contract.outputs import OutputError
from toposieve_airflow.contract.step import STEP_VERSION
from toposieve_airflow.profile import load_profile
from toposieve_airflow.runs.jobs_environment import JobsEnvironment

from ..conftest import Namespace, Run

TALK = textwrap.dedent("""
    import json, os, socket, time
    config = json.loads(os.environ["TF_CONFIG"])
    index, hosts = config["task"]["index"], config["cluster"]["worker"]
    name, port = hosts[0].split(":")
    if index == 0:
        server = socket.create_server(("", int(port)))
        for _ in hosts[1:]:
            peer, _ = server.accept()
            print("chief heard", peer.recv(99).decode())
            peer.sendall(b"hello")
    else:
        while True:
            try:
                peer = socket.create_connection((name, int(port)))
                break
            except OSError:
                time.sleep(.1)
        peer.sendall(f"worker {index}".encode())
        print("answer:", peer.recv(99).decode())
""")


def test_workers_find_each_other_by_the_names_in_tf_config(make_run, namespace: Namespace) -> None:
    run: Run = make_run(TALK, workers=3).start().finish()
    assert run.error is None
    assert sorted(run.worker_lines(0)) == ["chief heard worker 1", "chief heard worker 2"]
    assert run.worker_lines(1) == run.worker_lines(2) == ["answer: hello"]
    assert run.task.xcoms["gang"]["workers"] == {"0": "terminated", "1": "terminated", "2": "terminated"}
    namespace.check_empty()


def test_a_gang_of_one_has_no_peers_and_no_index(make_run) -> None:
    run: Run = make_run("import os; print(os.environ.get('TF_CONFIG'))", workers=1).start().finish()
    assert run.error is None
    assert "None" in run.lines


def test_pods_run_without_rights_and_write_only_to_tmp(make_run) -> None:
    text = """
        import os, pathlib
        print(os.getuid(), pathlib.Path.home())
        print([line for line in open("/proc/self/status") if line.startswith(("CapEff", "Seccomp:"))])
        print(pathlib.Path("/var/run/secrets/kubernetes.io").exists())
        pathlib.Path("/tmp/note").write_text("x")
        try:
            pathlib.Path("/var/tmp/note").write_text("x")
        except OSError as error:
            print(error.strerror)
    """
    run: Run = make_run(textwrap.dedent(text), workers=1).start().finish()
    assert run.error is None
    assert run.lines[-4:] == [
        "1000 /tmp",
        "['CapEff:\\t0000000000000000\\n', 'Seccomp:\\t2\\n']",
        "False",
        "Read-only file system",
    ]


def test_a_step_says_what_to_run_and_its_outputs_are_checked(make_run, tmp_path: Path) -> None:
    step = {
        "version": STEP_VERSION,
        "label": "hlf",
        "arguments": ["import sys; print(sys.argv[1:])", "--model", "hlf"],
        "inputs": ["/data/datasets/one"],
        "outputs": [str(tmp_path)],
        "config": {},
        "files": ["metrics.json"],
        "run_in_log": False,
        "workers": 2,
    }
    profile = load_profile(CONFIG_FOLDER)
    jobs = JobsEnvironment(str(profile.python), profile.job_environment())
    run: Run = make_run("", workers=9, step=step, jobs=jobs).start().finish()
    assert isinstance(run.error, OutputError)
    assert run.worker_lines(1) == ["['--model', 'hlf']"]
    assert "input: /data/datasets/one" in run.lines
    run = make_run("", step=step, try_number=2).start().finish()
    assert run.error is None


def test_a_gang_costs_little_time_and_few_requests(
    make_run, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    request = RESTClientObject.request

    def counted(*arguments: Any, **options: Any) -> Any:
        asked.append(time.monotonic())
        return request(*arguments, **options)

    monkeypatch.setattr(RESTClientObject, "request", counted)
    run: Run = make_run("import time; print('up'); time.sleep(20)", workers=2).start()
    for worker in range(2):
        run.wait_for_line(f"[worker {worker}] up")
    heard, heard_at = datetime.now(UTC), time.monotonic()
    states = [namespace.pod(worker).status.container_statuses[0].state for worker in range(2)]
    run.finish()
    late_s = (heard - max(state.running.started_at for state in states)).total_seconds()
    rate = sum(at > heard_at for at in asked) / (run.ended_at - heard_at)
    print(f"heard of {late_s:.1f} s after the last container's start; {len(asked)} requests, {rate:.2f}/s")
    assert late_s < 20
    assert rate <= 1
