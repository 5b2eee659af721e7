"""ROOT trees as Arrow tables: types of their columns, and values, one range of entries at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import uproot

from toposieve.errors import InvalidInputError
from toposieve.io.root_arrays import entry_bytes, read_arrays
from toposieve.io.root_faults import cause, is_format_fault
from toposieve.io.root_trees import REMEDY, Column, tree_columns

READ_BYTES = 32 << 20
"""About so much of the wanted branches, uncompressed, is in memory at a time, and comes in one request of a store."""

BATCH_BYTES = 4 << 20
"""About so much is in one Arrow batch."""

# Spark has no unsigned integers, no half precision, and lists of any length only.
_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.int64(),
    pa.float16(): pa.float32(),
}


def table_schema(tree: uproot.TTree, names: Sequence[str] = ()) -> tuple[pa.Schema, list[str]]:
    """Columns and types of a tree, and the branches that cannot be read, which are left out.

    Args:
        tree: From :func:`~toposieve.io.root_trees.open_tree`.
        names: Columns, or members of them such as ``Electron.PT``, in the order wanted; none takes all but counters.

    Raises:
        InvalidInputError: The tree has no such column, or none that can be read.
    """
    columns = tree_columns(tree)
    chosen = _chosen(columns, names or [name for name, column in columns.items() if not column.counter])
    wanted = [columns[name].members[member] for name, members in chosen.items() for member in members]
    types = _branch_types(wanted)
    unreadable = [f"{branch.name} ({branch.typename})" for branch in wanted if branch.cache_key not in types]
    fields = []
    for name, members in chosen.items():
        keys = [(member, columns[name].members[member].cache_key) for member in members]
        readable = {member: types[key] for member, key in keys if key in types}
        if readable:
            fields.append(pa.field(name, _column_type(readable, columns[name].repeated)))
    if not fields:
        raise InvalidInputError(f"nothing in tree {tree.name} can be read: {', '.join(unreadable) or 'it is empty'}")
    return pa.schema(fields), unreadable


def _chosen(columns: Mapping[str, Column], names: Sequence[str]) -> dict[str, list[str]]:
    """Column → members wanted of it."""
    chosen: dict[str, list[str]] = {}
    for name in names:
        column, _, member = (name, "", "") if name in columns else name.partition(".")
        if column not in columns or (member and member not in columns[column].members):
            there = columns[column].members if column in columns else columns
            raise InvalidInputError(f"no column {name}: there are {', '.join(sorted(there))}")
        wanted = chosen.setdefault(column, [])
        wanted += [found for found in ([member] if member else columns[column].members) if found not in wanted]
    return chosen


def _branch_types(branches: Sequence[uproot.TBranch]) -> dict[str, pa.DataType]:
    """Cache key → Arrow's type as Spark knows it, of those branches that can be read into columns."""
    known: dict[str, pa.DataType | None] = {}  # by interpretation: a thousand branches have a dozen
    types = {}
    for branch in branches:
        kind = repr(branch.interpretation)
        if kind not in known:
            known[kind] = _branch_type(branch)
        if known[kind] is not None:
            types[branch.cache_key] = known[kind]
    return types


def _branch_type(branch: uproot.TBranch) -> pa.DataType | None:
    try:
        form = branch.interpretation.awkward_form(branch.file)
        return _spark_type(_to_arrow(form.length_zero_array()).type)
    except Exception:  # uproot and awkward raise whatever they like for types that they do not know
        return None


def _spark_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_spark_type(kind.value_type))
    if pa.types.is_struct(kind):
        members = [field for field in kind if not field.name.startswith("@")]  # headers of ROOT's objects
        return pa.struct([(field.name, _spark_type(field.type)) for field in members])
    if not (pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_binary(kind)):
        raise TypeError(f"no type of Spark for {kind}")
    return _WIDER.get(kind, kind)


def _column_type(types: Mapping[str, pa.DataType], repeated: bool) -> pa.DataType:
    if "" in types:
        return types[""]
    if repeated:
        return pa.list_(pa.struct([(member, kind.value_type) for member, kind in types.items()]))
    return pa.struct(list(types.items()))


# --- values --------------------------------------------------------------------------------------------------------


def read_table(
    tree: uproot.TTree, schema: pa.Schema, start: int, stop: int, *, batch_bytes: int = BATCH_BYTES
) -> Iterator[pa.RecordBatch]:
    """Values of a range of entries, in batches of about ``batch_bytes``. Only the branches of the schema are read.

    Args:
        tree: From :func:`open_tree`.
        schema: From :func:`table_schema`, or parts of it, or of other types that hold the same values.
        start: First entry.
        stop: After the last entry.
        batch_bytes: Of the branches, uncompressed.

    Raises:
        InvalidInputError: The tree has no such columns, or of another kind; leaves of a collection differ in length; a
            value does not fit its type; or a branch cannot be read.
    """
    branches = schema_branches(tree, schema)
    leaves = [branch for members in branches.values() for branch in members.values()]
    for branch in leaves:
        if branch.num_entries != tree.num_entries:
            raise InvalidInputError(
                f"branch {branch.name} has {branch.num_entries} entries, the tree {tree.num_entries}; {REMEDY}"
            )
    each = entry_bytes(leaves, tree.num_entries)
    size = max(1, int(batch_bytes / each))
    for arrays in _read(tree, leaves, start, stop, max(1, int(max(READ_BYTES, batch_bytes) / each))):
        columns = [_column(field, branches[field.name], arrays) for field in schema]
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        yield from (batch.slice(row, size) for row in range(0, len(batch), size))


def schema_branches(tree: uproot.TTree, schema: pa.Schema) -> dict[str, dict[str, uproot.TBranch]]:
    """Column → member → branch of what a schema names.

    Raises:
        InvalidInputError: The tree lacks some of it, or a column is a collection where the schema has none.
    """
    columns = tree_columns(tree)
    found: dict[str, dict[str, uproot.TBranch]] = {}
    for field in schema:
        column = columns.get(field.name)
        struct = field.type.value_type if column and column.repeated and pa.types.is_list(field.type) else field.type
        plain = column is not None and "" in column.members
        names = [""] if plain else [member.name for member in struct] if pa.types.is_struct(struct) else []
        missing = [name for name in names if column is None or name not in column.members]
        if column is None or missing:
            wanted = f"{field.name}.{missing[0]}" if missing and missing[0] else field.name
            raise InvalidInputError(f"no {wanted} in tree {tree.name}; {REMEDY}")
        if not names or (column.repeated and struct is field.type):
            kind = "a list of structs" if column.repeated else "a struct"
            raise InvalidInputError(f"{field.name} is {kind}, not {field.type}: mend the schema given")
        found[field.name] = {name: column.members[name] for name in names}
    return found


def _read(
    tree: uproot.TTree, branches: Sequence[uproot.TBranch], start: int, stop: int, step: int
) -> Iterator[dict[str, ak.Array]]:
    """As :func:`read_arrays`; a branch that cannot be read is named."""
    try:
        yield from read_arrays(tree, branches, start, stop, step)
    except Exception as error:
        if (name := _damaged(branches, start, stop)) is None:
            raise
        raise InvalidInputError(f"branch {name} cannot be read ({cause(error)}); {REMEDY}") from error


def _damaged(branches: Sequence[uproot.TBranch], start: int, stop: int) -> str | None:
    """The first branch that cannot be read, if it is damaged rather than out of reach."""
    for branch in branches:
        try:
            branch.array(entry_start=start, entry_stop=stop, library="ak")
        except Exception as error:
            return str(branch.name) if is_format_fault(error) else None
    return None


def _column(field: pa.Field, branches: Mapping[str, uproot.TBranch], arrays: Mapping[str, ak.Array]) -> pa.Array:
    """One column of a table, of the field's type."""
    found = {member: (branch.name, _to_arrow(arrays[branch.cache_key])) for member, branch in branches.items()}
    if "" in found:
        return _fitted(*found[""], field.type)
    if pa.types.is_struct(field.type):
        parts = [_fitted(*found[member.name], member.type) for member in field.type]
        return pa.StructArray.from_arrays(parts, fields=list(field.type))
    struct = field.type.value_type
    first, (offsets, _) = next(iter(found.values()))[0], _lists(next(iter(found.values()))[1])
    parts = []
    for member in struct:
        name, array = found[member.name]
        others, values = _lists(array)
        if not np.array_equal(offsets, others):
            raise InvalidInputError(f"{name} and {first} have different lengths; {REMEDY}")
        parts.append(_fitted(name, values, member.type))
    items = pa.StructArray.from_arrays(parts, fields=list(struct))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type=field.type)


def _to_arrow(array: ak.Array) -> pa.Array:
    return ak.to_arrow(array, list_to32=True, string_to32=True, bytestring_to32=True, extensionarray=False)


def _lists(array: pa.Array) -> tuple[Any, pa.Array]:
    """Offsets, which start at 0, and values of a list array."""
    if pa.types.is_fixed_size_list(array.type):
        return np.arange(len(array) + 1, dtype=np.int32) * array.type.list_size, array.flatten()
    if not pa.types.is_list(array.type):
        raise TypeError("not a list")
    return np.asarray(array.offsets), array.values


def _fitted(name: str, array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values of a branch in another type, if that can hold them."""
    try:
        return _cast(array, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{name} is {array.type} and does not fit {kind} ({cause(error)})") from error


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind):
        offsets, values = _lists(array)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), _cast(values, kind.value_type), type=kind)
    if pa.types.is_struct(kind):
        if not pa.types.is_struct(array.type):
            raise TypeError("not a struct")
        parts = [_cast(array.field(member.name), member.type) for member in kind]
        return pa.StructArray.from_arrays(parts, fields=list(kind))
    return array.cast(kind)
