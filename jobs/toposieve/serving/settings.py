"""What Kafka's clients are told: librdkafka's own keys, from a file and from the environment.

A file has a line ``key=value`` for each, and comments after ``#`` at a line's start::

    bootstrap.servers=kafka.example.org:9093
    security.protocol=SASL_SSL
    ssl.ca.location=/etc/ssl/certs/ca-certificates.crt
    sasl.mechanism=SCRAM-SHA-512
    sasl.username=toposieve

A variable ``TOPOSIEVE_KAFKA_SASL_PASSWORD`` sets ``sasl.password``, and wins. So no secret is on a command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from toposieve.errors import InvalidInputError

PREFIX = "TOPOSIEVE_KAFKA_"
SERVERS = "bootstrap.servers"
OURS = (
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "partition.assignment.strategy",
    "transactional.id",
)
"""Keys on which it rests that no event is lost or counted twice."""
CLIENT = {"log_level": "2", "reconnect.backoff.max.ms": "1000"}
"""Of librdkafka's own remarks, what is critical: it makes dozens a second about a broker that is away."""
CONSUMER = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": "false",
    "isolation.level": "read_committed",
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "1000",
    "queued.max.messages.kbytes": "32768",
    "fetch.queue.backoff.ms": "20",
    "fetch.wait.max.ms": "100",
}
PRODUCER = {"linger.ms": "0", "retry.backoff.ms": "3", "transaction.timeout.ms": "10000"}
"""A transaction that begins while the last one is still being ended is tried again, after a tenth of a second else.

The user's settings win over these three, but for keys of :data:`OURS`.
"""


def client_settings(file: Path | None, variables: Mapping[str, str], servers: str | None = None) -> dict[str, str]:
    """All that the user says of the brokers.

    Args:
        file: Lines as above, or None.
        variables: The environment.
        servers: The brokers, if the command line names them.

    Raises:
        InvalidInputError: A line is none, a key is not the user's to set, or there are no brokers.
    """
    settings = _read(file) if file is not None else {}
    for name, value in variables.items():
        if name.startswith(PREFIX):
            settings[name.removeprefix(PREFIX).lower().replace("_", ".")] = value
    if servers is not None:
        settings[SERVERS] = servers
    for key in settings:
        if key in OURS:
            raise InvalidInputError(f"{key} is for this job to set, that no event is lost or counted twice: remove it")
    if not settings.get(SERVERS):
        raise InvalidInputError(f"no brokers: give --brokers HOST:PORT, or {SERVERS}=HOST:PORT in the file of --kafka")
    return settings


def _read(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} cannot be read ({error}): give a file of lines key=value") from None
    settings = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            key, separator, value = line.partition("=")
            if not separator:
                raise InvalidInputError(f"{file}, line {number}: expected key=value, for example {SERVERS}=HOST:9092")
            settings[key.strip()] = value.strip()
    return settings
