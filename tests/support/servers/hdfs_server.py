"""A real HDFS, and YARN if wanted: Hadoop's mini cluster in one Java process, driven over py4j."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from support.servers.maven import fetch_jars

_POM = Path(__file__).with_name("hadoop.pom.xml")
_CLIENT_KEYS = (
    "fs.defaultFS",
    "yarn.resourcemanager.hostname",
    "yarn.resourcemanager.address",
    "yarn.resourcemanager.scheduler.address",
    "yarn.resourcemanager.resource-tracker.address",
    "yarn.resourcemanager.admin.address",
    "yarn.resourcemanager.webapp.address",
)
_YARN = {
    "yarn.resourcemanager.hostname": "127.0.0.1",
    "yarn.nodemanager.hostname": "127.0.0.1",
    "yarn.scheduler.capacity.root.queues": "default",
    "yarn.scheduler.capacity.root.default.capacity": "100",
    "yarn.scheduler.capacity.maximum-am-resource-percent": "0.8",
    "yarn.scheduler.minimum-allocation-mb": "128",
    "yarn.nodemanager.resource.memory-mb": "6144",
    "yarn.nodemanager.resource.cpu-vcores": "8",
    "yarn.nodemanager.vmem-check-enabled": "false",
    "yarn.nodemanager.pmem-check-enabled": "false",
    "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99.5",
    "yarn.nodemanager.delete.debug-delay-sec": "600",
    "yarn.minicluster.fixed.ports": "false",
    "yarn.log-aggregation-enable": "true",
    "yarn.nodemanager.remote-app-log-dir": "logs",
    "yarn.nodemanager.env-whitelist": "JAVA_HOME,PATH,LANG",
}


class HadoopServer:
    """Its Java process starts when made; :meth:`wait` starts the services in it and returns once they answer.

    Args:
        folder: An empty folder for its data.
        yarn: Start a resource manager and a node manager too.
        permissions: Obey the owners and modes of files; a user ``nobody`` may then write nowhere.
    """

    def __init__(self, folder: Path, yarn: bool = False, permissions: bool = False) -> None:
        self._folder = folder
        self._with_yarn = yarn
        self._permissions = permissions
        self._process, self._gateway = _start_java(folder, fetch_jars(_POM))
        self._dfs: Any = None
        self._yarn: Any = None

    @property
    def url(self) -> str:
        """Such as ``hdfs://127.0.0.1:9000``."""
        return str(self._dfs.getURI().toString())

    @property
    def environment(self) -> dict[str, str]:
        """What clients need to find it: the folder of ``core-site.xml`` and ``yarn-site.xml``."""
        return {"HADOOP_CONF_DIR": str(self._folder / "conf")}

    def wait(self) -> HadoopServer:
        """Start the services and write the clients' configuration, unless that is done."""
        if self._dfs is not None:
            return self
        java = self._gateway.jvm
        configuration = java.org.apache.hadoop.conf.Configuration()
        configuration.set("hdfs.minidfs.basedir", str(self._folder / "dfs"))
        configuration.set("dfs.permissions.enabled", str(self._permissions).lower())
        configuration.set("dfs.namenode.fs-limits.min-block-size", "1024")
        self._dfs = java.org.apache.hadoop.hdfs.MiniDFSCluster.Builder(configuration).numDataNodes(1).build()
        self._dfs.waitActive()
        configuration.set("fs.defaultFS", self.url)
        self._write_client_configuration(self._start_yarn(configuration) if self._with_yarn else configuration)
        return self

    def safe_mode(self, on: bool) -> None:
        """Let the name node refuse all writes, or end that."""
        adapter = self._gateway.jvm.org.apache.hadoop.hdfs.server.namenode.NameNodeAdapter
        if on:
            adapter.enterSafeMode(self._dfs.getNameNode(), False)
        else:
            adapter.leaveSafeMode(self._dfs.getNameNode())

    def kill(self) -> None:
        """Take the name node away."""
        self._dfs.shutdownNameNode(0)

    def restart(self) -> None:
        """Bring the name node back on its port, with its data."""
        self._dfs.restartNameNode(0)

    def stop(self) -> None:
        """End the Java process at once. It also ends with ours, whose end of a pipe it watches."""
        self._gateway.close()
        self._process.kill()
        self._process.stdin.close()
        self._process.wait()

    def _start_yarn(self, configuration: Any) -> Any:
        java = self._gateway.jvm.org.apache.hadoop.yarn
        configuration = java.conf.YarnConfiguration(configuration)
        for name, value in _YARN.items():
            configuration.set(name, value)
        self._yarn = java.server.MiniYARNCluster("mini", 1, 1, 1)
        self._yarn.init(configuration)
        self._yarn.start()
        self._yarn.waitForNodeManagersToConnect(60_000)
        return self._yarn.getConfig()

    def _write_client_configuration(self, configuration: Any) -> None:
        values = {name: configuration.get(name) for name in _CLIENT_KEYS}
        properties = "".join(
            f"<property><name>{name}</name><value>{escape(value)}</value></property>\n"
            for name, value in values.items()
            if value is not None
        )
        conf = self._folder / "conf"
        conf.mkdir()
        # Yarn's own defaults override what core-site.xml says of yarn, so both files have all.
        for name in ("core-site.xml", "yarn-site.xml"):
            (conf / name).write_text(f"<configuration>\n{properties}</configuration>\n", encoding="utf-8")


def _start_java(folder: Path, jars: Path) -> tuple[subprocess.Popen[bytes], Any]:
    import pyspark
    from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

    from toposieve.spark.java import java_home

    folder.mkdir(parents=True, exist_ok=True)
    spark_jars = Path(pyspark.__file__).parent / "jars"
    log = (folder / "server.log").open("ab")
    port, token, process = launch_gateway(
        jarpath=str(next(spark_jars.glob("py4j-*.jar"))),
        classpath=f"{spark_jars}/*:{jars}/*",
        javaopts=[
            *("-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true"),
            f"-Dtest.build.data={folder / 'build'}",
        ],
        java_path=str(java_home() / "bin" / "java"),
        die_on_exit=True,
        enable_auth=True,
        return_proc=True,
        redirect_stdout=log,
        redirect_stderr=log,
        cwd=str(folder),
    )
    parameters = GatewayParameters(port=port, auth_token=token, auto_convert=True)
    return process, JavaGateway(gateway_parameters=parameters)
