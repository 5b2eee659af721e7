"""What modules say and import, read from their text."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules that a module imports, wherever in it, for types alone or not, and what it takes from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def code_of(source: str) -> str:
    """A module without its comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [line for line in node.body if not is_text(line)]
    return repr(shape(tree))


def shape(part: object) -> object:
    """A syntax tree without fields that are empty: their number depends on Python's version, as ``ast.dump`` does."""
    if isinstance(part, ast.AST):
        fields = [(name, shape(value)) for name, value in ast.iter_fields(part) if value not in (None, [])]
        return type(part).__name__, fields
    return [shape(each) for each in part] if isinstance(part, list) else part


def is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
