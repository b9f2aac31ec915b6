"""Marks in a file with a bug: by them a trial learns whether its changed statements ran at all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def marked(text: str, at: int, mark: Path) -> str | None:
    """Returns a Python file's text that also writes a mark whenever the statement at an offset runs.

    A class, a function's signature or a constant runs when its module is imported. Returns None if nothing there can be
    marked, as in other files.
    """
    line = text.count("\n", 0, at) + 1
    try:
        module = ast.parse(text)
    except SyntaxError:
        return None
    lines = text.splitlines(keepends=True)
    found = [each for each in _statements(module, lines) if _first(each) <= line <= (each.end_lineno or 0)]
    if not found:
        return None
    innermost = min(found, key=lambda each: (each.end_lineno or 0) - _first(each))
    first = _first(innermost) - 1
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    lines.insert(first, f'{indent}__import__("pathlib").Path({str(mark)!r}).touch()\n')
    return "".join(lines)


def _statements(module: ast.Module, lines: list[str]) -> Iterator[ast.stmt]:
    """Yields the statements before which another can stand: no ``elif``, docstring or import from the future."""
    for each in ast.walk(module):
        if not isinstance(each, ast.stmt) or lines[each.lineno - 1].lstrip().startswith("elif"):
            continue
        is_text = isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
        is_future = isinstance(each, ast.ImportFrom) and each.module == "__future__"
        if not is_text and not is_future:
            yield each


def _first(statement: ast.stmt) -> int:
    """The first line of a statement, with its decorators."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(each.lineno for each in decorators)])
