"""Deployment profiles: what differs between one deployment and another, read from ``dags/config/<profile>.yaml``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    ValidationError,
    ValidationInfo,
    model_validator,
)

PROFILE_VARIABLE = "TOPOSIEVE_PROFILE"
"""Environment variable that chooses the profile: a name, or the path of a YAML file. Default: ``local``."""

SECRET_FOLDER = "/etc/toposieve/store"
"""Where pods mount the Secret with the credentials of the stores."""

READ_ONLY = ("root://", "roots://")
"""Starts of the URLs of stores that can only be read."""


_OF_PODS = {
    "service_account": "spec.serviceAccountName",
    "accelerator": "resources.limits of its container",
    "accelerator_count": "resources.limits of its container",
    "runtime_class": "spec.runtimeClassName",
    "node_selector": "spec.nodeSelector",
    "tolerations": "spec.tolerations",
    "affinity": "spec.affinity",
    "requests": "resources.requests of its container",
    "limits": "resources.limits of its container",
    "priority_class": "spec.priorityClassName",
    "queue": "metadata.labels, as kueue.x-k8s.io/queue-name",
}
_MOVED = {
    "kubernetes.spark_pod": "say it as kubernetes.pods.spark, relative to the profile",
    "kubernetes.gang.url": "say it as kubernetes.gang_url",
} | {
    f"kubernetes.{section}.{key}": f"say it in the file kubernetes.pods.{section}, under {where}"
    for section in ("gang", "evaluation")
    for key, where in _OF_PODS.items()
}
"""Key of an earlier profile → where its value is said now."""


class ProfileError(ValueError):
    """A profile is missing, or one of its keys is missing, unknown or wrong; the message names file and key."""


def _under_repository(path: Path, info: ValidationInfo) -> Path:
    return Path(info.context["repository"]) / path if info.context else path


def _beside_profile(path: Path, info: ValidationInfo) -> Path:
    return Path(info.context["folder"]) / path if info.context else path


def is_url(location: str) -> bool:
    """Whether data lies in a store that is reached by a URL, rather than under a path of the machine.

    >>> is_url("s3://lhc/toposieve"), is_url("/data")
    (True, False)
    """
    return "://" in location


def is_read_only(location: str) -> bool:
    """Whether nothing can be written there."""
    return location.startswith(READ_ONLY)


def _location(value: str, info: ValidationInfo) -> str:
    return value.rstrip("/") if is_url(value) else str(_under_repository(Path(value), info))


def _writable(location: str) -> str:
    if is_read_only(location):
        raise ValueError(f"{location} can only be read: it may be raw; base is where the jobs write")
    return location


RepositoryPath = Annotated[Path, AfterValidator(_under_repository)]
"""A path, relative to the repository unless absolute. Links stay as they are: a virtual environment needs them."""

BesideProfile = Annotated[Path, AfterValidator(_beside_profile)]
"""A path, relative to the profile's own file unless absolute."""

Location = Annotated[str, AfterValidator(_location)]
"""Where data lies: a URL, or a path as above."""


def _for_a_gang(url: str) -> str:
    try:
        url.format(namespace="", name="")
    except (LookupError, ValueError):
        raise ValueError("only {namespace} and {name} are filled in; double any other brace") from None
    return url


LabelValue = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Minutes = Annotated[int, Field(ge=1)]
GangUrl = Annotated[str, AfterValidator(_for_a_gang)]
"""An address with ``{namespace}`` and ``{name}`` of a gang."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spark(_Section):
    """How ``spark-submit`` runs."""

    submit: RepositoryPath
    home: RepositoryPath
    java_home: RepositoryPath | None
    connection: str
    master: str
    conf: dict[str, str]


class Pool(_Section):
    """An Airflow pool and the slots that the local set-up gives it."""

    name: str
    slots: int = Field(ge=1)


class Pools(_Section):
    """Pools by what runs in them."""

    spark: Pool
    training: Pool


class Training(_Section):
    """Sizes of a training gang that belong to the deployment."""

    startup_timeout_s: int = Field(ge=1)


class Timeouts(_Section):
    """Minutes that one try of a task may take."""

    plan: Minutes
    simulate: Minutes
    ingest: Minutes
    select: Minutes
    prepare: Minutes
    tune: Minutes
    train: Minutes
    train_trees: Minutes
    evaluate: Minutes
    candidate: Minutes
    publish: Minutes
    export: Minutes
    make_firmware: Minutes
    score: Minutes


class Approval(_Section):
    """Who decides which model is published."""

    by_rules: bool = False
    """The configured rules, without asking anybody."""
    users: tuple[str, ...] = ()
    """Ids of those who may; empty for everybody who may answer tasks."""
    hours: float = Field(default=72, gt=0)
    """How long a candidate waits for them."""


class Connections(_Section):
    """Airflow connections with the credentials of stores, for jobs that run beside Airflow and for its checks."""

    s3: str | None = None
    hdfs: str | None = None
    root: str | None = None

    def given(self) -> dict[str, str]:
        """Kind of store → connection, where there is one."""
        return self.model_dump(exclude_none=True)


class Secret(_Section):
    """A Secret with the credentials of stores, for pods, which mount it at :data:`SECRET_FOLDER`."""

    name: str
    variables: list[str]
    """Its keys that are environment variables too, by the same name; one that stands for a file has the path."""


class Images(_Section):
    """Images of the pods, as ``docker/build.sh`` makes them."""

    spark: str
    training: str
    pull_policy: Literal["Always", "IfNotPresent", "Never"]


class Pods(_Section):
    """Files that pods are made from: each a Pod, in Kubernetes' own words."""

    spark: BesideProfile
    gang: BesideProfile
    evaluation: BesideProfile


class SpawnPods(_Section):
    """Files that the pods of scripts are made from."""

    cpu: BesideProfile
    gpu: BesideProfile | None


class Spawn(_Section):
    """What scripts that are not ours, and so may be anybody's, are allowed."""

    images: tuple[str, ...] = Field(min_length=1)
    scripts: RepositoryPath
    """Folder of the scripts and what goes with them, where Airflow's tasks run."""
    output: Path | None
    """Folder on the claim that the scripts may write to."""
    packages: str | None
    """Where their requirements come from: URL of an index, or a folder of wheels that pods see; None: pip's default."""
    pods: SpawnPods


class Kubernetes(_Section):
    """Where and how pods run."""

    connection: str
    namespace: str
    instance: LabelValue
    images: Images
    claim: str | None
    secret: Secret | None
    pods: Pods
    spark_startup_timeout_s: int = Field(ge=1)
    gang_waiting_h: int = Field(ge=1)
    """Hours that a gang may wait for its place, from the beginning or since it has lost it."""
    gang_url: GangUrl | None
    spawn: Spawn | None = None


class Profile(_Section):
    """One deployment."""

    operators: Literal["local", "kubernetes"]
    base: Annotated[Location, AfterValidator(_writable)]
    raw: Location | None = None
    """Where raw data lies, if not below the base."""
    connections: Connections = Connections()
    links: dict[str, HttpUrl] = {}
    """Name → address of what else shows runs, such as TensorBoard: for the pages in Airflow's UI."""
    jobs: RepositoryPath
    python: RepositoryPath
    firmware_python: RepositoryPath | None = None
    """Python of the environment that makes firmware; None: there is none, and no firmware is made."""
    spark: Spark
    pools: Pools
    training: Training
    timeouts_min: Timeouts
    approval: Approval = Approval()
    kubernetes: Kubernetes | None = None

    @model_validator(mode="after")
    def _has_pods(self) -> Profile:
        if (self.operators == "kubernetes") != (self.kubernetes is not None):
            raise ValueError("the section kubernetes goes with operators: kubernetes, and is null otherwise")
        return self

    @model_validator(mode="after")
    def _makes_firmware_here(self) -> Profile:
        if self.kubernetes is not None and self.firmware_python is not None:
            raise ValueError("firmware_python must be null on Kubernetes: no image holds that environment")
        return self

    @model_validator(mode="after")
    def _is_seen_by_pods(self) -> Profile:
        if self.kubernetes is None:
            return self
        claim = self.kubernetes.claim
        if is_url(self.base) == (claim is not None):
            raise ValueError(
                f"base {self.base} and kubernetes.claim {claim} do not go together: a path lies on a claim, which "
                "every pod mounts there; with a URL, such as s3://BUCKET/FOLDER, claim is null"
            )
        if claim is None and self.raw is not None and not is_url(self.raw):
            raise ValueError(f"raw is {self.raw}, a path that no pod sees without a claim: give a URL")
        output = None if self.kubernetes.spawn is None else self.kubernetes.spawn.output
        if output is not None and (claim is None or Path(self.base) not in output.parents):
            raise ValueError(f"kubernetes.spawn.output is {output}: it must be null, or below base on a claim")
        return self

    def places(self) -> dict[str, str]:
        """Options of the jobs that say where data lies, without dashes → path or URL."""
        return {"base": self.base, **({} if self.raw is None else {"raw": self.raw})}

    def job_environment(self) -> dict[str, str]:
        """Environment variables that every job gets on top of Airflow's own."""
        environment = {
            "PYTHONPATH": str(self.jobs),
            "PYTHONUNBUFFERED": "1",
            "PYSPARK_PYTHON": str(self.python),
            "PYSPARK_DRIVER_PYTHON": str(self.python),
            "SPARK_HOME": str(self.spark.home),
            # Spark's own default: the settings of another Spark on this machine are not ours.
            "SPARK_CONF_DIR": str(self.spark.home / "conf"),
        }
        if self.spark.java_home is not None:
            environment["JAVA_HOME"] = str(self.spark.java_home)
        if self.spark.master.startswith("local"):  # else spark-submit asks for the address of this machine's name
            environment["SPARK_LOCAL_IP"] = "127.0.0.1"
        return environment


def load_profile(config_folder: Path) -> Profile:
    """Read the profile that ``TOPOSIEVE_PROFILE`` chooses.

    Args:
        config_folder: ``dags/config`` of the repository.

    Raises:
        ProfileError: There is no such profile, or a key is missing, misspelt or wrong.
    """
    chosen = os.environ.get(PROFILE_VARIABLE, "local")
    path = Path(chosen) if chosen.endswith((".yaml", ".yml")) else config_folder / f"{chosen}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        stems = sorted(file.stem for file in config_folder.glob("*.yaml"))
        known = ", ".join(stem for stem in stems if not stem.endswith("-pod"))
        raise ProfileError(f"{PROFILE_VARIABLE}={chosen}: {path}: {error.strerror}; profiles here: {known}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: not valid YAML: {error}") from None
    return parse_profile(values, path, repository=config_folder.resolve().parents[1])


def parse_profile(values: Any, path: Path, repository: Path) -> Profile:
    """Check a profile's values; ``path`` is where they came from, for the message.

    Raises:
        ProfileError: A key is missing, misspelt or wrong.
    """
    try:
        return Profile.model_validate(values, context={"repository": repository, "folder": path.parent})
    except ValidationError as error:
        raise ProfileError(f"{path}: {_describe(error)}") from None


def _describe(error: ValidationError) -> str:
    meanings = {"missing": "missing key", "extra_forbidden": "unknown key"}
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
        meaning = meanings.get(problem["type"], problem["msg"])
        lines += _moved(key, problem["input"]) or [f"{key}: {meaning}"]
    return "; ".join(lines)


def _moved(key: str, value: Any) -> list[str]:
    """What to do about a key that earlier profiles had, or about those below it; nothing about any other."""
    keys = [key, *(f"{key}.{below}" for below in value)] if isinstance(value, dict) else [key]
    return [f"{each}: no longer a key: {_MOVED[each]}" for each in keys if each in _MOVED]
