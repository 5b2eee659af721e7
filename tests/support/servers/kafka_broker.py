"""A real Kafka broker in one Java process (KRaft, no ZooKeeper), from Maven Central."""

from __future__ import annotations

import logging
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from support.servers.maven import fetch_jars
from support.servers.processes import ServerProcess, free_ports
from toposieve.spark.java import java_home

if TYPE_CHECKING:
    from confluent_kafka import Message
    from confluent_kafka.admin import AdminClient

USER, PASSWORD = "serve", "let-me-in"
"""Who may enter by the guarded listener."""
LARGEST_MESSAGE = 32 << 20

_POM = Path(__file__).with_name("kafka.pom.xml")
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=OPEN://127.0.0.1:{open},GUARDED://127.0.0.1:{guarded},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=OPEN://127.0.0.1:{open},GUARDED://127.0.0.1:{guarded}
inter.broker.listener.name=OPEN
listener.security.protocol.map=OPEN:PLAINTEXT,GUARDED:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.guarded.sasl.enabled.mechanisms=PLAIN
listener.name.guarded.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
    user_{user}="{password}";
listener.name.guarded.ssl.keystore.type=PEM
listener.name.guarded.ssl.keystore.location={folder}/server.pem
log.dirs={folder}/data
auto.create.topics.enable=false
message.max.bytes={largest}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""
_JAVA = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true")
_FORMAT = (
    "kafka.tools.StorageTool",
    "format",
    "--config",
    "server.properties",
    "--cluster-id",
    "4L6g3nShT-eMCtK--X86sw",
)


class KafkaBroker:
    """Started when made; :meth:`wait` returns once it answers.

    Args:
        folder: An empty folder for its data.
    """

    def __init__(self, folder: Path) -> None:
        jars = fetch_jars(_POM)
        self._folder = folder
        self._java = [str(java_home() / "bin" / "java"), *_JAVA, "-cp", f"{jars}/*"]
        self._open, self._guarded, controller = free_ports(3)
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = _make_certificate(folder)
        text = _PROPERTIES.format(
            open=self._open,
            guarded=self._guarded,
            controller=controller,
            folder=folder,
            user=USER,
            password=PASSWORD,
            largest=LARGEST_MESSAGE,
        )
        (folder / "server.properties").write_text(text, encoding="utf-8")
        self.process = self._launch([*self._java, *_FORMAT])

    @property
    def address(self) -> str:
        """Where anybody may connect."""
        return f"127.0.0.1:{self._open}"

    @property
    def guarded_address(self) -> str:
        """Where TLS and a password are asked for."""
        return f"127.0.0.1:{self._guarded}"

    def wait(self) -> KafkaBroker:
        """Return once it has told a client who it is."""
        self.process.wait_until(self._answers)
        return self

    def make_topics(self, *names: str, partitions: int = 1) -> None:
        """Make topics."""
        from confluent_kafka.admin import NewTopic

        admin = self._admin()  # ends what it has begun if nobody holds it
        for each in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
            each.result()

    def delete_topic(self, name: str) -> None:
        """Remove a topic with all it holds."""
        admin = self._admin()
        admin.delete_topics([name])[name].result()

    def read(self, topic: str) -> list[Message]:
        """All messages of a topic that are committed, each partition in its order."""
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        options = {"enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True}
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "reader", **options})
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found, ended = [], set()
        while len(ended) < len(partitions):
            for message in consumer.consume(1000, 0.1):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
        consumer.close()
        return found

    def committed(self, topic: str) -> int:
        """Messages that a topic has, counting the marks that transactions leave."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "counter"})
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1] for number in partitions]
        consumer.close()
        return sum(ends)

    def kill(self) -> None:
        """Take it away, as a power cut would."""
        self.process.stop()

    def restart(self) -> None:
        """Start it again with the same data and ports; do not wait."""
        self.process = self._launch(["true"])

    def stop(self) -> None:
        """Take it away for good."""
        self.kill()

    def _launch(self, before: Sequence[str]) -> ServerProcess:
        start = [*self._java, "kafka.Kafka", "server.properties"]
        return ServerProcess(["sh", "-c", f"{shlex.join(before)} && exec {shlex.join(start)}"], self._folder)

    def _admin(self) -> AdminClient:
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.address}, logger=_quiet())

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException

        try:
            return bool(self._admin().list_topics(timeout=1).brokers)
        except KafkaException:
            return False


def _quiet() -> logging.Logger:
    logger = logging.getLogger("kafka-admin")
    logger.setLevel(logging.CRITICAL)
    return logger


def _make_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that signs itself; beside it, with its key, in the form that Kafka reads."""
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    key: Sequence[str] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", *key, "-keyout", "key.pem", "-out", "certificate.pem", *subject]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    certificate = folder / "certificate.pem"
    pem = (folder / "key.pem").read_text(encoding="utf-8") + certificate.read_text(encoding="utf-8")
    (folder / "server.pem").write_text(pem, encoding="utf-8")
    return certificate
