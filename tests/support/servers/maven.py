"""Java programs for tests, fetched from Maven Central once and kept in a cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from support.servers.processes import Unobtainable

CACHE_VARIABLE = "TOPOSIEVE_TEST_CACHE"


def fetch_jars(pom: Path) -> Path:
    """Folder of the jars that a POM names, such as ``kafka.pom.xml``: of the cache, or fetched with Maven into it.

    Raises:
        Unobtainable: There is no Maven, or it finds them nowhere.
    """
    cache = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "toposieve-test")
    program = pom.name.partition(".")[0]
    jars = cache / f"{program}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise Unobtainable(f"install Maven (Debian: maven) for a real {program.capitalize()}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".tmp-") as name:
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={name}/jars"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Unobtainable(f"Maven cannot fetch {program.capitalize()}: {done.stdout[-500:]}{done.stderr[-500:]}")
        (Path(name) / "jars").rename(jars)
    return jars
