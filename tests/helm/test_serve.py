"""Decisions by the stream, as the chart deploys them."""

import subprocess

import pytest

from support.charts import WITHOUT_VOLUME, find, render, render_files
from support.repository import REPOSITORY

NAME = "toposieve-serve"
GUARDED = {"serve": {"enabled": True, "kafkaSecret": "kafka", "replicas": 3, "options": ["--group", "level-1"]}}
PLAIN = {"serve": {"enabled": True, "brokers": "kafka.example.org:9092"}}


def container(values):
    (found,) = find(render(values), "Deployment", NAME)["spec"]["template"]["spec"]["containers"]
    return found


@pytest.mark.parametrize("variant", ["on_a_volume", "without_volume"])
def test_rendered_text(variant, check_golden):
    values = GUARDED | (WITHOUT_VOLUME if variant == "without_volume" else {})
    check_golden(f"helm/serve_{variant}.yaml", render_files(values)["serve.yaml"].strip() + "\n")


def test_nothing_is_served_unless_asked_for():
    assert render_files({})["serve.yaml"].strip() == ""


@pytest.mark.parametrize("values", [GUARDED, PLAIN])
def test_the_job_takes_the_command_line(values):
    """In an environment where it can be run, which this one is not."""
    python, *command = container(values)["args"]
    assert python == "python"
    code = "import serve, sys; serve.arg_parser().parse_args(sys.argv[1:])"
    job = [str(REPOSITORY / ".venv-jobs/bin/python"), "-c", code, *command[1:]]
    done = subprocess.run(job, cwd=REPOSITORY / "jobs", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (REPOSITORY / command[0]).is_file()


def test_probes_and_prometheus_ask_the_port_that_the_job_is_told():
    deployment = find(render(PLAIN), "Deployment", NAME)["spec"]
    found = container(PLAIN)
    port = found["args"][found["args"].index("--port") + 1]
    [named] = found["ports"]
    assert str(named["containerPort"]) == port
    assert deployment["template"]["metadata"]["annotations"]["prometheus.io/port"] == port
    paths = {kind: found[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {each["port"] for each in paths.values()} == {named["name"]}
    assert (paths["livenessProbe"]["path"], paths["readinessProbe"]["path"]) == ("/health", "/ready")


def test_a_disruption_takes_one_process_at_a_time():
    objects = render(GUARDED)
    budget, deployment = (find(objects, kind, NAME)["spec"] for kind in ("PodDisruptionBudget", "Deployment"))
    labels = deployment["template"]["metadata"]["labels"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == deployment["selector"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_the_storage_is_only_read():
    mounts = {each["name"]: each for each in container(GUARDED)["volumeMounts"]}
    assert [name for name, each in mounts.items() if not each.get("readOnly")] == ["scratch"]
    assert container(GUARDED)["securityContext"]["readOnlyRootFilesystem"] is True
