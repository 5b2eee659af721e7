"""Decide by Spark Structured Streaming: events of a Kafka topic to decisions in another, each at least once.

Spark keeps which events are in which batch, and begins a batch anew that was cut off. Beside that it is kept which
version decides the batch, so that a decision that is made twice is the same to the byte.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from toposieve import registry
from toposieve.config import DecisionConfig
from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.io.manifests import read_finished
from toposieve.io.store import Key
from toposieve.serving.answers import Answer, answer
from toposieve.serving.following import Model
from toposieve.serving.settings import SERVERS
from toposieve.spark.decisions import Decider

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

COLUMNS = ("topic", "partition", "offset", "key", "value")
"""What is read of a message."""
_HEADERS = pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()}))
ANSWERS = pa.schema({"topic": pa.string(), "key": pa.binary(), "value": pa.binary(), "headers": _HEADERS})
_ANSWERS_IN_SQL = "topic string, key binary, value binary, headers array<struct<key: string, value: binary>>"
SPARK_SETTINGS = {"spark.sql.execution.arrow.maxBytesPerBatch": str(64 << 20)}
"""A message may be as large as the brokers allow."""
BROKER_SECONDS = 30

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Topics:
    """Where events come from and what becomes of them.

    Attributes:
        events: Of events' records.
        decisions: Of decisions' records; the key is the event's id.
        refused: Of messages that are no events; the headers say why, and where they were.
    """

    events: str
    decisions: str
    refused: str


# --- which version decides ---------------------------------------------------------------------------------------


class BatchModels:
    """The model of each batch: the published one, or that which has decided the batch before.

    What is published and cannot be loaded is said once; the model in use stays.

    Args:
        folder: The registry's folder of a name.
        records: Where it is kept which version decides which batch.
        target: True-positive rate of the working point that decides; None for a model's highest.

    Raises:
        InvalidInputError: Nothing is published, or it cannot be loaded.
    """

    def __init__(self, folder: Key, records: Key, target: float | None) -> None:
        """Load what is published now."""
        self._folder, self._records, self._target = folder, records, target
        self._problem = ""
        self._newest = self._load(registry.published_version(folder), target)

    def of(self, batch: int) -> Decider:
        """The model that decides a batch.

        Raises:
            InvalidInputError: That which has decided it before is gone.
        """
        record = self._records / f"{batch:020}.json"
        if record.stat() is None:
            decider = self._look()
            chosen = {"version": decider.version, "target": decider.config.target}
            record.create_if_absent(json.dumps(chosen).encode() + b"\n")
            self._records.delete_below(*(name for name in self._records.list() if name < f"{batch - 1:020}"))
        return self._load(**json.loads(read_finished(record)))

    def _look(self) -> Decider:
        """The published model, or the one before if it cannot be loaded."""
        try:
            newest = self._load(registry.published_version(self._folder), self._target)
            if newest.version != self._newest.version:
                logger.info("model: version %d takes over from version %d", newest.version, self._newest.version)
            self._newest, self._problem = newest, ""
        except (InvalidInputError, OSError) as error:
            if str(error) != self._problem:
                logger.warning("model: version %d stays in use, for: %s", self._newest.version, error)
            self._problem = str(error)
        return self._newest

    def _load(self, version: int, target: float | None) -> Decider:
        return Decider.find(self._folder, version, DecisionConfig(target=target))


# --- in the tasks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Message:
    """A message as ``serving.answers.Received``."""

    row: Sequence[Any]

    def topic(self) -> str:
        return str(self.row[0])

    def partition(self) -> int:
        return int(self.row[1])

    def offset(self) -> int:
        return int(self.row[2])

    def key(self) -> bytes | None:
        key: bytes | None = self.row[3]
        return key

    def value(self) -> bytes | None:
        value: bytes | None = self.row[4]
        return value


def answers_to(
    batches: Iterable[pa.RecordBatch], load: Callable[[], Model], topics: Topics
) -> Iterator[pa.RecordBatch]:
    """Messages to be produced.

    Args:
        batches: Messages, with :data:`COLUMNS`.
        load: Gives the model.
        topics: Where to.
    """
    for batch in batches:
        rows = zip(*(batch.column(name).to_pylist() for name in COLUMNS), strict=True)
        found = answer([_Message(row) for row in rows], load())
        yield pa.RecordBatch.from_pylist([_row(each, topics) for each in found], ANSWERS)


def _row(each: Answer, topics: Topics) -> dict[str, Any]:
    headers = [{"key": name, "value": content} for name, content in each.headers.items()]
    topic = topics.decisions if each.fault is None else topics.refused
    return {"topic": topic, "key": each.key, "value": each.value, "headers": headers or None}


# --- in the driver -----------------------------------------------------------------------------------------------


def check_topics(spark: SparkSession, settings: Mapping[str, str], topics: Topics) -> None:
    """Refuse topics that are not there; Spark would wait for them.

    Raises:
        InvalidInputError: One is missing.
        UnavailableError: The brokers do not answer.
    """
    from py4j.protocol import Py4JJavaError

    jvm: Any = spark.sparkContext._jvm
    properties = jvm.java.util.Properties()
    for key, value in settings.items():
        properties.setProperty(key, value)
    try:
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(properties)
        try:
            known = set(admin.listTopics().names().get(BROKER_SECONDS, jvm.java.util.concurrent.TimeUnit.SECONDS))
        finally:
            admin.close()
    except Py4JJavaError as error:
        raise UnavailableError(f"{settings[SERVERS]} does not answer ({error.java_exception.toString()})") from None
    for option, name in vars(topics).items():
        if name not in known:
            raise InvalidInputError(
                f"topic {name} is not on {settings[SERVERS]}: create it, or name another with --{option}"
            )


def decide_stream(
    spark: SparkSession,
    settings: Mapping[str, str],
    topics: Topics,
    checkpoint: Key,
    models: BatchModels,
    *,
    batch: int,
    replay: bool,
    stopped: Callable[[], bool],
) -> None:
    """Decide until stopped, or until all that is there now is decided.

    Args:
        spark: A session that has Kafka's connector.
        settings: Of the connector's clients.
        topics: Which.
        checkpoint: Where Spark keeps how far it is.
        models: The model of each batch.
        batch: Messages in one, at most.
        replay: End once all is decided that is there now.
        stopped: Whether to end.

    Raises:
        InvalidInputError: The model of a batch that was cut off is gone.
        UnavailableError: The brokers stay away, or a task fails.
    """
    from pyspark.errors import StreamingQueryException

    clients = {f"kafka.{key}": value for key, value in settings.items()}
    reading = {
        "kafka.isolation.level": "read_committed",
        "subscribe": topics.events,
        "startingOffsets": "earliest",
        "maxOffsetsPerTrigger": str(batch),
        "minPartitions": str(spark.sparkContext.defaultParallelism),
    }
    wrong: list[InvalidInputError] = []

    def decide(frame: DataFrame, number: int) -> None:
        try:
            decide_batch(frame, number, models.of(number), topics, clients)
        except InvalidInputError as error:
            wrong.append(error)
            raise

    messages = spark.readStream.format("kafka").options(**clients, **reading).load().select(*COLUMNS)
    writer = messages.writeStream.foreachBatch(decide).option("checkpointLocation", str(checkpoint))
    query = (writer.trigger(availableNow=True) if replay else writer.trigger(processingTime="0 seconds")).start()
    try:
        while not query.awaitTermination(1):
            if stopped():
                query.stop()
    except StreamingQueryException as error:
        if wrong:
            raise wrong[0] from None
        raise UnavailableError(f"the stream has ended ({str(error).splitlines()[0]}): run the same again") from error


def decide_batch(frame: DataFrame, number: int, decider: Decider, topics: Topics, clients: Mapping[str, str]) -> None:
    """Answer all messages of a batch."""
    answers = frame.mapInArrow(partial(answers_to, load=decider.scorer, topics=topics), _ANSWERS_IN_SQL)
    answers.write.format("kafka").options(**clients).save()
    logger.info("batch %d: decided by version %d", number, decider.version)
