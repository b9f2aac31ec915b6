"""Reads the text of a published route table a second time, into the document that the plain interpreter uses.

``lab.routing.yaml_nodes`` builds the table that routes from a parser's events; this uses PyYAML's own composer, and
shares no code with it. Scalars follow YAML 1.2 in both: ``NO`` is a country.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?([eE][-+]?\d+)?)", re.ASCII)
_DIGITS = re.compile(r"[-+]?\d+", re.ASCII)
_DEFAULT_TIMEOUT = "1s"


def document_of(texts: Sequence[str]) -> dict[str, Any]:
    """Returns the route table in the texts of one or more files, each of which may hold some of its entries.

    Raises:
        ValueError: a text is not YAML, or not a mapping of sections.
    """
    document: dict[str, Any] = {"use_cases": {}, "models": {}, "clusters": {}}
    for text in texts:
        found = _value(text)
        if not isinstance(found, dict):
            raise ValueError("a route table's text is not a mapping")  # noqa: TRY004 (of what a text holds)
        for section, entries in found.items():
            document.setdefault(section, {}).update(entries or {})
    use_cases = {name: {"timeout": _DEFAULT_TIMEOUT, **one} for name, one in document.get("use_cases", {}).items()}
    return without_empty_tenants({**document, "use_cases": use_cases})


def without_empty_tenants(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the document; a section of tenants that has none is left out, as it means the same as no such section."""
    return {section: entries for section, entries in document.items() if entries or section != "tenants"}


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Yields where two documents differ: ``models.rows.versions.v1.cluster: 'a', not 'b'``."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key), other.get(key), f"{place}.{key}" if place else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, its) in enumerate(zip(one, other, strict=True)):
            yield from differences(mine, its, f"{place}[{number}]")
    elif type(one) is not type(other) or one != other:
        yield f"{place}: {one!r}, not {other!r}"


def _value(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)  # a large table is JSON, and read a hundred times faster so
        except ValueError:
            pass
    try:
        return _plain(yaml.compose(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML: {error}") from error


def _plain(node: Any) -> Any:
    match node:
        case None:
            return {}
        case yaml.MappingNode():
            return {key.value: _plain(value) for key, value in node.value}
        case yaml.SequenceNode():
            return [_plain(each) for each in node.value]
        case yaml.ScalarNode():
            return node.value if node.style else _scalar(node.value)


def _scalar(text: str) -> str | int | float | bool | None:
    words: Mapping[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
    lower = text.lower()
    if lower in words and text in {lower, lower.capitalize(), lower.upper()}:
        return words[lower]
    if _DIGITS.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
