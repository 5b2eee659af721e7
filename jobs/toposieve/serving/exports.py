"""Portable forms of the registry's versions: each made once, and kept beside the version as a numbered record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, ValidationError

from toposieve.errors import InvalidInputError
from toposieve.io.content_folders import upload
from toposieve.io.manifests import OutputFile, check_listed, read_finished
from toposieve.io.store import Key
from toposieve.registry import Feature

EXPORTS = "exports"
FILE_NAME = "model.onnx"
ONE_BY_ONE = "one_by_one"
"""Metadata of a model that gives an event the same bits only where it is not padded."""


SCALED = "units of its dataset"
"""Unit of features that nobody knows how to scale."""


class NotPortableError(InvalidInputError):
    """A model that cannot have a portable form."""


class Export(BaseModel):
    """The portable form of a version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: OutputFile
    """Its path is below the registry's folder of the name."""
    events: int
    """Test events on which it was compared with the model itself."""
    difference: float
    """Largest difference of any probability there."""


def units_of(features: Mapping[str, Sequence[Feature]], *, scaled: bool) -> dict[str, list[list[str]]]:
    """Input → names and units of its features, as a portable form says them.

    Args:
        features: Input → its features.
        scaled: Whether they come as a dataset has them that does not say how it was scaled.
    """
    return {name: [[each.name, SCALED if scaled else each.unit] for each in of] for name, of in features.items()}


def keep_export(folder: Key, version: int, content: bytes, *, events: int, difference: float) -> Export:
    """Keep the portable form of a version; the same one again changes nothing.

    Args:
        folder: The registry's folder of a name.
        version: Its number.
        content: The ONNX file.
        events: As of :class:`Export`.
        difference: As of :class:`Export`.

    Raises:
        InvalidInputError: It has another one.
    """
    with TemporaryDirectory(prefix="toposieve-") as scratch:
        (Path(scratch) / FILE_NAME).write_bytes(content)
        (file,) = upload(Path(scratch), [FILE_NAME], folder / "files")
    export = Export(file=file.model_copy(update={"path": f"files/{file.path}"}), events=events, difference=difference)
    key = _record(folder, version)
    if key.create_if_absent(export.model_dump_json(indent=1).encode() + b"\n"):
        return export
    known = read_export(folder, version)
    if known.file != export.file:
        raise InvalidInputError(f"{key}: version {version} has another portable form: register the model anew")
    return known


def read_export(folder: Key, version: int) -> Export:
    """What is known of a version's portable form.

    Raises:
        InvalidInputError: It has none.
    """
    key = _record(folder, version)
    try:
        return Export.model_validate_json(read_finished(key))
    except FileNotFoundError:
        raise InvalidInputError(
            f"version {version} of {folder} has no portable form: run export_model.py --version {version}"
        ) from None
    except ValidationError as error:
        raise InvalidInputError(f"{key} cannot be read ({error.error_count()} problems): restore this file") from None


def read_portable(folder: Key, version: int) -> bytes:
    """A version's ONNX file.

    Raises:
        InvalidInputError: It has none, or the file is gone.
    """
    return check_listed(folder, read_export(folder, version).file).read_bytes()


def _record(folder: Key, version: int) -> Key:
    return folder / EXPORTS / f"{version:06d}.json"
