"""A DataFrame of ROOT files: ``spark.read.format("root")``.

Rows are events, collections arrays of structs, so that SQL reads as physics. In ``.venv-jobs``, after ``make demo``::

    from toposieve.spark.root_source import register
    from toposieve.spark.session import spark_session

    with spark_session("look") as spark:
        register(spark)
        events = (
            spark.read.format("root")
            .option("columns", "Electron.PT,MuonTight.PT,MissingET.MET")
            .load("work/raw/*/2026-01-01/*.root")
        )
        events.createOrReplaceTempView("events")
        spark.sql("SELECT count(*) FROM events WHERE size(FILTER(Electron, e -> e.PT > 23)) > 0").show()

Options, apart from the path or list of paths (see :func:`~toposieve.io.root_inputs.find_root_files`):

``columns``
    Collections, branches or members of collections, with commas between. Only these are read: Spark does not tell the
    source which columns a query needs, so without this option (or ``.schema(...)``) everything in the files is.
``tree``
    The tree, with its folder if it lies in one; else the only one of a file, ``Delphes`` or ``Events``.
``partitionBytes``
    How much of the columns, compressed, one task reads: 64 MB unless given.
``onBadFile``
    ``fail`` (unless given) or ``skip``: a file that cannot be read gives no rows, and a warning in the task's log.

The schema is that of the first file unless ``.schema(...)`` gives one, which may name less, and other types that hold
the values. Unsigned integers become wider signed ones. Branches of types that no column can hold are left out with a
warning.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StructType

from toposieve.errors import InvalidInputError
from toposieve.io.root_inputs import Piece, RootFile, find_root_files, share_out
from toposieve.io.root_tables import read_table, schema_branches, table_schema
from toposieve.io.root_trees import open_tree
from toposieve.spark.run import is_bad_input

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FORMAT = "root"

PARTITION_BYTES = 64 << 20
"""How much of the wanted columns, as they lie in the files, one task reads unless told otherwise."""

ON_BAD_FILE = ("fail", "skip")
MAX_PROBLEMS = 5
"""So many reasons are given where every file is bad."""

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


def register(spark: SparkSession) -> None:
    """Make ``spark.read.format("root")`` known to a session (see the module's docstring for an example)."""
    spark.dataSource.register(RootSource)


@dataclass(frozen=True)
class RootOptions:
    """What a reader was told.

    Attributes:
        paths: Files, folders and patterns.
        tree: Name of the tree; None where it goes without saying.
        columns: Columns and members of columns; none for all.
        partition_bytes: To read in one task.
        skip: Whether to go on without bad files.
    """

    paths: tuple[str, ...]
    tree: str | None
    columns: tuple[str, ...]
    partition_bytes: int
    skip: bool


def parse_options(options: Mapping[str, str]) -> RootOptions:
    """Check options, whose names Spark gives in lower case.

    >>> parse_options({"path": "work/raw", "columns": "Electron.PT, MissingET"}).columns
    ('Electron.PT', 'MissingET')

    Raises:
        InvalidInputError: One is unknown, or has a value that it cannot have.
    """
    names = {name.lower(): name for name in ("path", "paths", "tree", "columns", "partitionBytes", "onBadFile")}
    given = {name.lower(): value for name, value in options.items()}
    if unknown := sorted(given.keys() - names.keys()):
        raise InvalidInputError(f"no option {', '.join(unknown)}: there are {', '.join(names.values())}")
    paths = json.loads(given["paths"]) if "paths" in given else [given["path"]] if "path" in given else []
    if not paths:
        raise InvalidInputError('no path: name files, folders or patterns in load("...")')
    size, bad_file = given.get("partitionbytes", str(PARTITION_BYTES)), given.get("onbadfile", ON_BAD_FILE[0])
    if not size.isdecimal() or int(size) == 0:
        raise InvalidInputError(f"partitionBytes is {size}: it must be a number of bytes, at least 1")
    if bad_file not in ON_BAD_FILE:
        raise InvalidInputError(f"onBadFile is {bad_file}: it must be {' or '.join(ON_BAD_FILE)}")
    columns = tuple(name.strip() for name in given.get("columns", "").split(",") if name.strip())
    return RootOptions(tuple(paths), given.get("tree"), columns, int(size), bad_file == "skip")


class RootSource(DataSource):
    """ROOT files under some paths."""

    @classmethod
    def name(cls) -> str:
        """What ``spark.read.format`` takes."""
        return FORMAT

    def schema(self) -> StructType:
        """The columns of the first file that can be read.

        Raises:
            InvalidInputError: There is no file, or none that can be read, or it has no such columns.
        """
        with _in_one_sentence():
            options = parse_options(self.options)
            files = find_root_files(options.paths)
            schema, unreadable = _of_the_first(files, options, lambda _, tree: table_schema(tree, options.columns))
        for branch in unreadable:
            logger.warning("left out, since no column can hold its type: %s", branch)
        return from_arrow_schema(schema)

    def reader(self, schema: StructType) -> DataSourceReader:
        """A reader of these columns."""
        with _in_one_sentence():
            return RootReader(parse_options(self.options), schema)


@dataclass(frozen=True)
class RootPartition(InputPartition):
    """What one task reads."""

    pieces: tuple[Piece, ...]


class RootReader(DataSourceReader):
    """Reads given columns.

    Args:
        options: From :func:`parse_options`.
        schema: The columns.
    """

    def __init__(self, options: RootOptions, schema: StructType) -> None:
        """Nothing is opened yet: the reader travels to the tasks."""
        self._options = options
        self._schema = schema

    def partitions(self) -> list[InputPartition]:
        """Files, cut or put together by the bytes of the wanted columns. Only the first is opened.

        Raises:
            InvalidInputError: There is no file, or none that can be read, or it lacks a column.
        """
        options, schema = self._options, self._arrow_schema()
        with _in_one_sentence():
            files = find_root_files(options.paths)
            share = _of_the_first(files, options, lambda file, tree: _wanted_bytes(tree, schema) / file.size)
        tasks = share_out(files, share, options.partition_bytes, whole=options.skip)
        return [RootPartition(tuple(pieces)) for pieces in tasks]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Values of a partition, in the files' order.

        Raises:
            InvalidInputError: A file is bad, unless bad files are to be skipped: such a file gives no rows at all.
        """
        assert isinstance(partition, RootPartition)
        for piece in partition.pieces:
            batches = self._read_piece(piece)
            try:
                yield from _read_ahead(batches, self._arrow_schema()) if self._options.skip else batches
            except InvalidInputError as error:
                if not (self._options.skip and is_bad_input(error)):
                    raise type(error)(str(error)) from None
                logger.warning("left out: %s", error)

    def _read_piece(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        with open_tree(piece.file.key, self._options.tree) as tree:
            yield from read_table(tree, self._arrow_schema(), *piece.entries(tree.num_entries))

    def _arrow_schema(self) -> pa.Schema:
        """The same that Spark compares batches with."""
        return to_arrow_schema(self._schema, timezone="UTC")


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Spark shows users the whole stack behind an error: where input is bad, there is to be none."""
    try:
        yield
    except InvalidInputError as error:
        raise type(error)(str(error)) from None


def _of_the_first(files: list[RootFile], options: RootOptions, ask: Callable[[RootFile, Any], Answer]) -> Answer:
    """What the tree of the first file that can be read answers."""
    problems = []
    for file in files:
        try:
            with open_tree(file.key, options.tree) as tree:
                return ask(file, tree)
        except InvalidInputError as error:
            if not (options.skip and is_bad_input(error)):
                raise
            problems.append(str(error))
    raise InvalidInputError("\n".join(["every file is bad:", *problems[:MAX_PROBLEMS]]))


def _wanted_bytes(tree: Any, schema: pa.Schema) -> int:
    branches = schema_branches(tree, schema).values()
    return sum(int(branch.compressed_bytes) for members in branches for branch in members.values())


def _read_ahead(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The same batches, once all of them are there: in a file meanwhile, since there may be many."""
    with tempfile.TemporaryFile() as spool:
        with pa.ipc.new_stream(spool, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        spool.seek(0)
        with pa.ipc.open_stream(spool) as reader:
            yield from reader
