"""A real XRootD server, as sites have it: Debian's ``xrootd-server``."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from support.servers.processes import ServerProcess, Unobtainable, answers, free_ports

# Servers refuse to run as root; this user cannot look into root's folders, so the data have one of their own.
_USER = "nobody"


class XrootdServer:
    """Started when made; serves :attr:`data` as ``/``. :meth:`wait` returns once it answers.

    Args:
        redirect_to: Host and port of another server to send every client to.
    """

    def __init__(self, redirect_to: str | None = None) -> None:
        xrootd = shutil.which("xrootd")
        if xrootd is None:
            raise Unobtainable("install xrootd-server (Debian) for a real XRootD server")
        self._xrootd = xrootd
        self._folder = Path(tempfile.mkdtemp(prefix="toposieve-xrootd-"))
        self._folder.chmod(0o755)
        self.data = self._folder / "data"
        self.data.mkdir()
        (self._port,) = free_ports(1)
        self._configure(redirect_to)
        self.process = self._launch()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Of the served folder."""
        return f"root://{self.host}/"

    def wait(self) -> XrootdServer:
        """Return once somebody listens."""
        self.process.wait_until(lambda: answers(self._port))
        return self

    def kill(self) -> None:
        """Take the server away."""
        self.process.stop()

    def restart(self) -> None:
        """Start it again where it was killed; do not wait."""
        self.process = self._launch()

    def stop(self) -> None:
        """Take it away for good, with its data."""
        self.kill()
        shutil.rmtree(self._folder)

    def _configure(self, redirect_to: str | None) -> None:
        own = self._folder / "admin"
        own.mkdir()
        if os.geteuid() == 0:
            shutil.chown(own, _USER)
        lines = [
            f"oss.localroot {self.data}",
            f"all.adminpath {own}",
            f"all.pidpath {own}",
            "all.export /",
            "xrootd.chksum adler32",
            "xrd.allow host *",
            *([f"xrootd.redirect {redirect_to} {what}" for what in ("all", "/")] if redirect_to else []),
        ]
        (self._folder / "xrootd.cfg").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _launch(self) -> ServerProcess:
        command = [self._xrootd, "-c", str(self._folder / "xrootd.cfg"), "-p", str(self._port), "-I", "v4"]
        return ServerProcess(command, self._folder, user=_USER if os.geteuid() == 0 else None)
