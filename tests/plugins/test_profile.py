from collections.abc import Iterator
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from toposieve_airflow.profile import PROFILE_VARIABLE, ProfileError, load_profile, parse_profile

FILE = Path("somewhere.yaml")
OPTIONAL = [
    ("kubernetes",),
    ("raw",),
    ("firmware_python",),
    ("connections",),
    ("links",),
    ("kubernetes", "spawn"),
]
KUBERNETES = yaml.safe_load((CONFIG_FOLDER / "kubernetes.yaml").read_text())


@pytest.fixture
def values() -> dict[str, Any]:
    return yaml.safe_load((CONFIG_FOLDER / "local.yaml").read_text())


def test_local_profile_is_under_the_repository() -> None:
    profile = load_profile(CONFIG_FOLDER)
    assert profile.base == str(REPOSITORY / "work")
    assert profile.raw is None
    assert profile.places() == {"base": profile.base}
    assert profile.job_environment()["PYTHONPATH"] == str(REPOSITORY / "jobs")
    assert "JAVA_HOME" not in profile.job_environment()


@pytest.mark.parametrize("name", ["SPARK_HOME", "SPARK_CONF_DIR", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"])
def test_jobs_have_the_spark_and_python_of_the_profile_whatever_the_user_has(name: str) -> None:
    assert load_profile(CONFIG_FOLDER).job_environment()[name].startswith(str(REPOSITORY / ".venv-jobs"))


@pytest.mark.parametrize(("master", "address"), [("local[4]", "127.0.0.1"), ("yarn", None), ("k8s://https://x", None)])
def test_only_local_jobs_do_without_the_hosts_name(values: dict[str, Any], master: str, address: str | None) -> None:
    values["spark"]["master"] = master
    environment = parse_profile(values, FILE, Path("/repo")).job_environment()
    assert environment.get("SPARK_LOCAL_IP") == address


def test_absolute_paths_stay(values: dict[str, Any]) -> None:
    values["base"] = "/data"
    values["spark"]["java_home"] = "/opt/java"
    profile = parse_profile(values, FILE, Path("/repo"))
    assert profile.base == "/data"
    assert profile.jobs == Path("/repo/jobs")
    assert profile.job_environment()["JAVA_HOME"] == "/opt/java"


def test_missing_and_misspelt_keys_are_named_with_the_file(values: dict[str, Any]) -> None:
    del values["base"]
    values["spark"]["hoem"] = values["spark"].pop("home")
    with pytest.raises(ProfileError) as caught:
        parse_profile(values, FILE, Path("/repo"))
    for part in ("somewhere.yaml", "base: missing key", "spark.home: missing key", "spark.hoem: unknown key"):
        assert part in str(caught.value)


def keys(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a profile, with those above it; what is under ``spark.conf`` and the like is not ours."""
    for key, value in values.items():
        yield (*above, key)
        if isinstance(value, dict) and key != "conf":
            yield from keys(value, (*above, key))


@pytest.mark.parametrize("path", list(keys(KUBERNETES)), ids=".".join)
def test_every_key_is_needed_and_named_when_it_is_missing_or_misspelt(path: tuple[str, ...]) -> None:
    broken = deepcopy(KUBERNETES)
    *above, key = path
    section = reduce(getitem, above, broken)
    section[f"{key}x"] = section.pop(key)
    with pytest.raises(ProfileError) as caught:
        parse_profile(broken, FILE, Path("/repo"))
    assert f"{'.'.join(path)}x: unknown key" in str(caught.value)
    # A profile may do without its section kubernetes, if its operators do.
    assert path in OPTIONAL or f"{'.'.join(path)}: missing key" in str(caught.value)


def test_a_key_of_an_earlier_profile_is_told_where_it_is_said_now() -> None:
    old = deepcopy(KUBERNETES)
    old["kubernetes"] |= {
        "spark_pod": "dags/config/spark-pod.yaml",
        "gang": {"tolerations": [], "queue": None, "url": None},
        "evaluation": {"accelerator": "cpu"},
    }
    with pytest.raises(ProfileError) as caught:
        parse_profile(old, FILE, Path("/repo"))
    assert str(caught.value).split("; ") == [
        "somewhere.yaml: kubernetes.spark_pod: no longer a key: say it as kubernetes.pods.spark, relative to "
        "the profile",
        "kubernetes.gang.tolerations: no longer a key: say it in the file kubernetes.pods.gang, under spec.tolerations",
        "kubernetes.gang.queue: no longer a key: say it in the file kubernetes.pods.gang, under metadata.labels, as "
        "kueue.x-k8s.io/queue-name",
        "kubernetes.gang.url: no longer a key: say it as kubernetes.gang_url",
        "kubernetes.evaluation.accelerator: no longer a key: say it in the file kubernetes.pods.evaluation, under "
        "resources.limits of its container",
    ]


@pytest.mark.parametrize("url", ["https://dashboard/{job}", "https://dashboard/{}", "https://dashboard/{name"])
def test_an_address_of_a_gang_has_no_other_fields(url: str) -> None:
    values = deepcopy(KUBERNETES)
    values["kubernetes"]["gang_url"] = url
    with pytest.raises(ProfileError, match=r"gang_url: .*only {namespace} and {name} are filled in"):
        parse_profile(values, FILE, Path("/repo"))


@pytest.mark.parametrize("base", ["s3://bucket/data", "hdfs://name/data"])
def test_data_may_lie_in_a_store_and_raw_in_another(values: dict[str, Any], base: str) -> None:
    profile = parse_profile(values | {"base": f"{base}/", "raw": "root://eos//raw"}, FILE, Path("/repo"))
    assert profile.places() == {"base": base, "raw": "root://eos//raw"}
    assert parse_profile(values | {"raw": "files"}, FILE, Path("/repo")).raw == "/repo/files"


def test_a_base_that_can_only_be_read_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ProfileError, match=r"base: .*root://eos//data can only be read: it may be raw"):
        parse_profile(values | {"base": "root://eos//data"}, FILE, Path("/repo"))


def test_only_kinds_that_need_credentials_have_connections(values: dict[str, Any]) -> None:
    given = parse_profile(values | {"connections": {"s3": "minio", "hdfs": None}}, FILE, Path("/repo")).connections
    assert given.given() == {"s3": "minio"}
    with pytest.raises(ProfileError, match=r"connections.ftp: unknown key"):
        parse_profile(values | {"connections": {"ftp": "a"}}, FILE, Path("/repo"))


@pytest.mark.parametrize(
    ("base", "claim", "raw", "message"),
    [
        ("/data", "toposieve-base", None, None),
        ("/data", "toposieve-base", "root://eos//raw", None),
        ("s3://lhc/data", None, None, None),
        ("s3://lhc/data", None, "root://eos//raw", None),
        ("/data", None, None, "base /data and kubernetes.claim None do not go together"),
        ("s3://lhc/data", "toposieve-base", None, "base s3://lhc/data and kubernetes.claim toposieve-base do not go"),
        ("s3://lhc/data", None, "/raw", "raw is /raw, a path that no pod sees without a claim"),
    ],
)
def test_pods_see_all_data_on_a_claim_or_under_a_url(
    base: str, claim: str | None, raw: str | None, message: str | None
) -> None:
    values = deepcopy(KUBERNETES) | {"base": base, "raw": raw}
    values["kubernetes"]["claim"] = claim
    if message is None:
        assert parse_profile(values, FILE, Path("/repo")).base == base
    else:
        with pytest.raises(ProfileError, match=message):
            parse_profile(values, FILE, Path("/repo"))


def test_profile_is_chosen_by_the_environment(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values["base"] = "/elsewhere"
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(values))
    monkeypatch.setenv(PROFILE_VARIABLE, str(other))
    assert load_profile(CONFIG_FOLDER).base == "/elsewhere"


def test_unknown_profile_names_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, "lokal")
    with pytest.raises(ProfileError, match=r"lokal.*profiles here: kubernetes, local, yarn$"):
        load_profile(CONFIG_FOLDER)


@pytest.mark.parametrize("content", [b"a: [1", "base: /größe".encode("latin-1")])
def test_file_that_is_not_yaml(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_bytes(content)
    monkeypatch.setenv(PROFILE_VARIABLE, str(broken))
    with pytest.raises(ProfileError, match=r"broken\.yaml: not valid YAML"):
        load_profile(CONFIG_FOLDER)


def test_the_kubernetes_profile_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, "kubernetes")
    profile = load_profile(CONFIG_FOLDER)
    assert profile.kubernetes is not None
    assert profile.kubernetes.pods.spark == CONFIG_FOLDER / "spark-pod.yaml"


def test_on_kubernetes_no_firmware_is_made() -> None:
    with pytest.raises(ProfileError, match="firmware_python must be null on Kubernetes: no image holds that"):
        parse_profile({**KUBERNETES, "firmware_python": ".venv-firmware/bin/python"}, FILE, Path("/repo"))


@pytest.mark.parametrize(("operators", "pods"), [("kubernetes", False), ("local", True)])
def test_pods_go_with_the_operators_for_them(operators: str, pods: bool) -> None:
    values = yaml.safe_load((CONFIG_FOLDER / "kubernetes.yaml").read_text()) | {"operators": operators}
    if not pods:
        del values["kubernetes"]
    with pytest.raises(ProfileError, match="section kubernetes goes with operators: kubernetes"):
        parse_profile(values, FILE, Path("/repo"))


def test_profiles_differ_in_values_and_in_pods_alone(values: dict[str, Any]) -> None:
    other = yaml.safe_load((CONFIG_FOLDER / "kubernetes.yaml").read_text())
    assert other.keys() - values.keys() == {"kubernetes", "connections", "links"}
    for section in ("spark", "pools", "training", "timeouts_min"):
        assert other[section].keys() == values[section].keys()
