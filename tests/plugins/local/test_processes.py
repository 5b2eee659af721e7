import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from support.airflow_environment import REPOSITORY
from toposieve_airflow.local import processes
from toposieve_airflow.local.processes import (
    GRACE_S,
    JobFailed,
    JobProcesses,
    _family,
    _wait_for,
    end_children,
    end_processes,
    free_ports,
)

WAIT_FOR_EVER = "import signal; print('ready', flush=True); signal.pause()"
DEADLINE_S = 20


def run(code: str, environments: list[dict[str, str]]) -> list[str]:
    log: list[str] = []
    names = [f"worker {index}" for index in range(len(environments))]
    JobProcesses(names).run([sys.executable, "-c", code], environments, log.append)
    return log


def test_lines_of_all_workers_are_passed_on_with_their_names() -> None:
    log = run("import os; print('hello', os.environ['I'])", [{"I": "0"}, {"I": "1"}])
    assert sorted(log) == ["[worker 0] hello 0", "[worker 1] hello 1"]


def test_a_process_on_its_own_needs_no_name_in_its_log() -> None:
    assert run("print('hello')", [{}]) == ["hello"]


def test_lines_come_while_the_process_runs() -> None:
    seen: list[str] = []
    processes = JobProcesses(["job"])

    def log(line: str) -> None:
        seen.append(line)
        processes.stop()

    with pytest.raises(JobFailed, match="ended by signal 15"):
        processes.run([sys.executable, "-c", WAIT_FOR_EVER], [{}], log)
    assert seen == ["ready"]


def test_one_failure_ends_the_others_and_is_reported_with_its_last_lines() -> None:
    code = f"import os\nif os.environ['I'] == '1':\n    print('oh no'); raise SystemExit(7)\n{WAIT_FOR_EVER}"
    started = time.monotonic()
    with pytest.raises(JobFailed, match="worker 1 failed with exit code 7: oh no") as caught:
        run(code, [{"I": "0"}, {"I": "1"}, {"I": "2"}])
    assert time.monotonic() - started < DEADLINE_S
    assert not caught.value.is_invalid_input
    assert not psutil.Process().children()


def test_invalid_input_is_reported_even_if_another_worker_ended_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SETTLE_S", DEADLINE_S)
    code = (
        "import os, sys, time\nif os.environ['I'] == '0': raise SystemExit(1)\n"
        "time.sleep(.3); print('error: no such dataset', file=sys.stderr); raise SystemExit(2)"
    )
    with pytest.raises(JobFailed, match="worker 1 failed with exit code 2: no such dataset") as caught:
        run(code, [{"I": "0"}, {"I": "1"}])
    assert caught.value.is_invalid_input


def test_a_killed_worker_is_told_from_those_that_are_ended() -> None:
    code = f"import os, signal\nif os.environ['I'] == '0': os.kill(os.getpid(), signal.SIGKILL)\n{WAIT_FOR_EVER}"
    with pytest.raises(JobFailed, match="worker 0 was ended by signal 9"):
        run(code, [{"I": "0"}, {"I": "1"}])


def test_processes_that_ignore_term_are_killed_with_their_children() -> None:
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAIT_FOR_EVER}"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {stubborn!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (child,) = psutil.Process(process.pid).children()
        started = time.monotonic()
        end_processes([process.pid])
        assert time.monotonic() - started < 2 * GRACE_S + 1
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_workers_end_with_the_task_even_if_it_is_killed() -> None:
    worker = f"import os; print(os.getpid()); {WAIT_FOR_EVER}"
    task = (
        "import sys; from toposieve_airflow.local.processes import JobProcesses\n"
        f"JobProcesses(['job']).run([sys.executable, '-c', {worker!r}], [{{}}], lambda line: print(line, flush=True))"
    )
    environment = {"PYTHONPATH": str(REPOSITORY / "plugins")}
    command = [sys.executable, "-c", task]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    assert not _wait_for(_family(pid), DEADLINE_S)


def test_exit_codes_stay_with_whoever_started_the_process() -> None:
    with subprocess.Popen([sys.executable, "-c", WAIT_FOR_EVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        waiting = threading.Thread(target=process.wait)
        waiting.start()
        end_children()
        waiting.join(DEADLINE_S)
    assert process.returncode == -15


def test_processes_that_are_gone_are_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    end_processes([process.pid])


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5


def test_stop_ends_a_whole_session() -> None:
    """A process that still starts is asked to end, too."""
    code = "import subprocess, sys; print('up', flush=True); subprocess.run(['sleep', '1000'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    with process.stdout as output:
        output.readline()
    started = time.monotonic()
    processes.end_sessions([process.pid], DEADLINE_S)
    assert time.monotonic() - started < DEADLINE_S
    assert process.wait(5) == -signal.SIGTERM
    assert not processes._members([process.pid])
