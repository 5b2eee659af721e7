"""docker/build.sh: the commands it runs, with programs of the engines' names that do nothing."""

import os
import subprocess

import pytest

from support.repository import REPOSITORY


@pytest.fixture
def build(tmp_path):
    """Run docker/build.sh where these engines are installed: ``docker!`` has no daemon, ``docker*`` is podman."""

    def run(*arguments: str, engines: tuple[str, ...] = ("buildah",)) -> subprocess.CompletedProcess[str]:
        for engine in engines:
            program = tmp_path / engine.rstrip("!*")
            says, fails = "podman" if engine.endswith("*") else engine, engine.endswith("!")
            program.write_text(f"#!/bin/sh\necho {says}\nexit {fails:d}\n")
            program.chmod(0o755)
        for tool in ("bash", "sed", "grep", "dirname", "cat", "git"):
            (tmp_path / tool).symlink_to(_which(tool))
        command = [str(REPOSITORY / "docker/build.sh"), *arguments]
        return subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)

    return run


def _which(tool: str) -> str:
    for folder in os.environ["PATH"].split(os.pathsep):
        if os.path.exists(f"{folder}/{tool}"):
            return f"{folder}/{tool}"
    raise FileNotFoundError(tool)


def test_three_images_by_default(build):
    lines = build("--dry-run", "--tag", "7").stdout.splitlines()
    for image, line in zip(("airflow", "spark", "training"), lines, strict=True):
        assert line.startswith(f"buildah build --file docker/{image}/Dockerfile --tag localhost/toposieve-{image}:7 ")
        assert "BASE_IMAGE" not in line
        assert "--target" not in line
        assert "REVISION=" in line


def test_the_gpu_variant_differs_by_its_requirements(build):
    (line,) = build("--dry-run", "training-gpu").stdout.splitlines()
    assert "--file docker/training/Dockerfile" in line
    assert "--build-arg REQUIREMENTS=training-gpu.txt --build-arg TITLE=toposieve-training-gpu" in line


def test_the_plain_image_is_a_stage_of_the_training_image_s_file(build):
    (line,) = build("--dry-run", "plain").stdout.splitlines()
    assert "--file docker/training/Dockerfile --tag localhost/toposieve-plain:1" in line
    assert "--target plain" in line


def test_names_base_and_push(build):
    built, pushed = build(
        *(
            "--dry-run",
            "--push",
            "--prefix",
            "registry.example.org/a-",
            "--tag",
            "2",
            "--base",
            "mirror/python:3.11",
            "spark",
        )
    ).stdout.splitlines()
    assert "--build-arg BASE_IMAGE=mirror/python:3.11" in built
    assert pushed == "buildah push registry.example.org/a-spark:2"


def test_further_options_go_to_the_engine(build):
    (line,) = build("--dry-run", "spark", "--", "--network", "host").stdout.splitlines()
    assert line.endswith(" --network host .")


@pytest.mark.parametrize(
    ("engines", "chosen"),
    [
        (("docker", "podman", "buildah"), "docker"),
        (("docker!", "buildah"), "buildah"),
        (("docker*", "podman"), "podman"),
        (("podman",), "podman"),
    ],
)
def test_the_first_engine_that_works_is_taken(build, engines, chosen):
    (line,) = build("--dry-run", "spark", engines=engines).stdout.splitlines()
    assert line.split()[0] == chosen
    assert ("--format docker" in line) == (chosen != "docker")


@pytest.mark.parametrize(
    ("arguments", "engines", "message"),
    [
        (["sparc"], ("buildah",), "unknown argument sparc"),
        (["--tag"], ("buildah",), "--tag needs a value"),
        (["spark"], (), "no docker daemon, podman or buildah here"),
    ],
)
def test_what_is_wrong_is_said(build, arguments, engines, message):
    result = build(*arguments, engines=engines)
    assert result.returncode == 2
    assert message in result.stderr


def test_help_names_every_option(build):
    text = build("--help").stdout
    for option in ("--prefix", "--tag", "--base", "--engine", "--push", "--dry-run"):
        assert option in text
