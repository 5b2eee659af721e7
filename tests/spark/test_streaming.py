"""Spark's stream of decisions, without Spark and Kafka."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import score_stream
from support.serving_data import small_model
from support.serving_processes import point_to
from support.streamed_events import random_event
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key, root_key
from toposieve.registry import registry_folder
from toposieve.serving.exports import EXPORTS, keep_export
from toposieve.serving.record import decode_decision, encode_event
from toposieve.serving.scorer import Scorer
from toposieve.spark.streaming import ANSWERS, COLUMNS, BatchModels, Topics, answers_to

TOPICS = Topics("events", "decisions", "refused")


@pytest.fixture
def base(tmp_path: Path) -> Key:
    return root_key("--base", str(tmp_path))


@pytest.fixture
def folder(base: Key) -> Key:
    """A registry of two versions, of which the first is published."""
    folder = registry_folder(base, "topology")
    for version in (1, 2):
        keep_export(folder, version, small_model(version), events=1, difference=0.0)
    point_to(folder, 1)
    return folder


def test_a_batch_that_is_begun_anew_has_the_version_that_it_had(base: Key, folder: Key) -> None:
    first = BatchModels(folder, base / "versions", None)
    assert [first.of(batch).version for batch in (0, 1)] == [1, 1]
    point_to(folder, 2)
    again = BatchModels(folder, base / "versions", 0.9)
    known, new = again.of(1), again.of(2)
    assert (known.version, known.scorer().target) == (1, 0.99), "as before, though another target is asked for"
    assert (new.version, new.scorer().target) == (2, 0.9)
    assert len((base / "versions").list()) == 2, "what cannot be begun anew is forgotten"


def test_what_cannot_be_loaded_leaves_the_model_in_use(
    base: Key, folder: Key, caplog: pytest.LogCaptureFixture
) -> None:
    models = BatchModels(folder, base / "versions", None)
    (folder / EXPORTS / "000002.json").delete()
    point_to(folder, 2)
    assert [models.of(batch).version for batch in range(3)] == [1, 1, 1]
    assert len([each for each in caplog.records if "version 1 stays in use" in each.getMessage()]) == 1


def test_each_message_has_an_answer(folder: Key) -> None:
    scorer = Scorer.load(folder, 1)
    good = encode_event(random_event(1))
    messages = [("events", 0, 7, b"good", good), ("events", 1, 8, b"short", good[:-1]), ("events", 1, 9, None, None)]
    batch = pa.record_batch(dict(zip(COLUMNS, map(list, zip(*messages, strict=True)), strict=True)))
    [found] = list(answers_to([batch], lambda: scorer, TOPICS))
    assert found.schema == ANSWERS
    decided, short, empty = found.to_pylist()
    assert decided["topic"] == "decisions"
    assert decided["headers"] is None
    assert decode_decision(decided["value"]).event_id.encode() == decided["key"]
    for row, (_, partition, offset, key, _) in ((short, messages[1]), (empty, messages[2])):
        headers = {each["key"]: each["value"].decode() for each in row["headers"]}
        assert (row["topic"], row["key"]) == ("refused", key)
        assert (headers["partition"], headers["offset"]) == (str(partition), str(offset))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--base", "s3://lhc/data"], "cannot keep a checkpoint"),
        (["--base", "{base}", "--jars", "/nowhere"], "make kafka-jars"),
    ],
)
def test_what_is_missing_is_said_before_spark_starts(
    folder: Key, base: Key, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toposieve.spark.session.spark_session", None)
    given = [option.format(base=base) for option in options]
    with pytest.raises(InvalidInputError, match=message):
        score_stream.main(score_stream.arg_parser().parse_args(["--brokers", "host:1", *given]))
