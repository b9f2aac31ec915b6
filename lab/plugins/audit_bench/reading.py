"""Finds the format of a result file, and reads it within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.errors import InputError
from lab.plugins.audit_bench.formats import FORMATS
from lab.reading import parse_json, read_text, where

if TYPE_CHECKING:
    from pathlib import Path

    from lab.plugins.audit_bench.audit import Audit


def audited(path: Path) -> list[Audit]:
    """The findings about a file, one for each benchmark in it.

    Raises:
        InputError: it cannot be read, is of no known format, or lacks what its format has.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{where(path, error)}: {error}") from None
    content, problem = _document(path, text)
    if found := _audited(path, content):
        return found
    known = ", ".join(f"{each.file} ({each.name})" for each in FORMATS.values())
    raise InputError(f"{path}: {problem or 'of no known format'}; there are {known}")


def _audited(path: Path, content: Any) -> list[Audit]:
    """The findings about a document, or about lines; none if it is of no known format."""
    by_lines = isinstance(content, _Lines)
    value: Any = content.values if by_lines else content
    for each in FORMATS.values():
        if each.by_lines is by_lines and each.recognises(value[0] if by_lines else value):
            try:
                return each.audit(value)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise InputError(f"{path}: {each.name}'s, but broken: {type(error).__name__}: {error}") from None
    # Some tools append one result a line.
    return [found for one in value for found in _audited(path, one)] if by_lines else []


class _Lines:
    """A file of one JSON value a line."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values


def _document(path: Path, text: str) -> tuple[Any, str]:
    """The value of a file, or of its lines; and what is wrong with it, empty if nothing is."""
    if not text.strip():
        return None, "is empty"
    first = text.lstrip().partition("\n")[0]
    if "\n" in text.strip():
        try:
            if isinstance(parse_json(first), dict):
                return _Lines(_lines(path, text)), ""
        except ValueError:
            pass  # no JSON ends with its first line
    try:
        document = parse_json(text)
    except ValueError as error:
        return None, f"not JSON: {error}"
    # One request alone is a file of lines, too.
    return (_Lines([document]), "") if _is_line(document) else (document, "")


def _is_line(document: object) -> bool:
    return any(each.by_lines and each.recognises(document) for each in FORMATS.values())


def _lines(path: Path, text: str) -> list[Any]:
    values = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                values.append(parse_json(line))
            except ValueError as error:
                raise InputError(f"{path}:{number}: not JSON: {error}") from None
    return values
