"""YAML text → plain values with line numbers: no tags, one document; size, depth, nodes and aliases are bounded.

Scalars follow YAML 1.2: ``NO``, ``on`` and ``yes`` are text, not booleans (Norway is a country). Keys are always text.
The tree is built from the parser's events, without recursion and without PyYAML's constructors, so that a hostile file
costs no more than the bounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from lab.errors import RouteTableError

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 500_000
MAX_ALIASES = 1_000
_MAX_DIGITS = 18
_SHOWN = 60
_PATH_SHOWN = 240

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ufeff\ue000-\ufffd\U00010000-\U0010ffff]")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_PLAIN_PART = re.compile(r"[\w@.-]{1,80}", re.ASCII)
_WORDS = {"": None, "~": None, "true": True, "false": False, "null": None}
_WORDS |= {spelling: value for word, value in _WORDS.items() for spelling in (word.capitalize(), word.upper())}


@dataclass(slots=True)
class Node:
    """A value and its position.

    Attributes:
        file: name of its source.
        line: 1-based; 0 if unknown.
        value: dict with text keys, list, str, int, float, bool or None.
        children: of a mapping by key, of a list by index.
        lines: of each child, the line of its key, or of the list's item.
        size: number of nodes in it; an alias counts at each use.
    """

    file: str
    line: int
    value: Any
    children: dict[str | int, Node] = field(default_factory=dict)
    lines: dict[str | int, int] = field(default_factory=dict)
    size: int = 1

    def add(self, key: str | int, child: Node, line: int) -> None:
        """Adds a child under a mapping's key, or at a list's end."""
        if isinstance(self.value, list):
            self.value.append(child.value)
        else:
            self.value[key] = child.value
        self.children[key], self.lines[key] = child, line
        self.size += child.size

    def locate(self, path: tuple[str | int, ...]) -> tuple[str, int]:
        """File and line of a path, or of its last existing step."""
        node, line = self, self.line
        for part in path:
            if part not in node.children:
                break
            line, node = node.lines[part], node.children[part]
        return node.file, line


def shown(value: object) -> str:
    """A value in an error message: on one line, truncated."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    # Truncated before repr too, which is slow for 16 MB.
    text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    if len(text) <= _SHOWN:
        return text
    return f"{text[: _SHOWN - 2]}…" + (text[0] if isinstance(value, str) else "")


def dotted(path: Iterable[str | int]) -> str:
    """``use_cases.UpNext.rules[0].name``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN_PART.fullmatch(part) else shown(part))
    return text if len(text) <= _PATH_SHOWN else f"{text[:_PATH_SHOWN]}…"


def parse(text: str, file: str) -> Node | None:
    """The document's tree; None for an empty text.

    Raises:
        RouteTableError: the first problem, with its line.
    """
    if len(text) > MAX_BYTES:
        raise RouteTableError(f"is larger than {MAX_BYTES >> 20} MB; split it, or leave something out", file=file)
    if bad := _UNPRINTABLE.search(text):
        raise RouteTableError(
            f"character U+{ord(bad[0]):04X} is not allowed in YAML; remove it",
            file=file,
            line=text.count("\n", 0, bad.start()) + 1,
        )
    builder = _Builder(file)
    try:
        events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        for event in events:
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise RouteTableError(f"YAML syntax: {_syntax_remedy(text, line, error)}", file=file, line=line) from error
    except yaml.YAMLError as error:
        raise RouteTableError(f"YAML syntax: {shown(str(error))}; write valid YAML", file=file) from error
    return builder.root


def _syntax_remedy(text: str, line: int, error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "not YAML"
    lines = text.splitlines()
    if 0 < line <= len(lines) and "\t" in lines[line - 1]:
        return f"{problem}; indent with spaces, not with tabs"
    return f"{problem}; check indentation, brackets and quotes here and on the line before"


class _Builder:
    """Processes the parser's events one by one; open nodes are on a stack."""

    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self._file = file
        self._open: list[tuple[Node, str | None, tuple[str, int] | None]] = []  # with anchor, and key in the parent
        self._key: tuple[str, int] | None = None
        self._anchors: dict[str, Node | None] = {}
        self._nodes = 0
        self._aliases = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._problem("a second document begins; keep one document a file", line)
            case yaml.AliasEvent():
                self._alias(str(event.anchor), line)
            case yaml.ScalarEvent():
                self._refuse_tag(event, line)
                self._scalar(event, line)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._refuse_tag(event, line)
                self._begin(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end()

    def _problem(self, problem: str, line: int) -> RouteTableError:
        path: list[str | int] = []
        keys = [key for _, _, key in self._open]
        for (parent, _, _), key in zip(self._open, [*keys, self._key][1:], strict=True):
            if isinstance(parent.value, list):
                path.append(len(parent.value))
            elif key is not None:
                path.append(key[0])
        return RouteTableError(problem, file=self._file, line=line, field=dotted(path))

    def _refuse_tag(self, event: Any, line: int) -> None:
        if event.tag is not None:
            raise self._problem(f"tag {shown(event.tag)} is not allowed; write the plain value", line)

    def _wants_key(self) -> bool:
        return self._key is None and bool(self._open) and isinstance(self._open[-1][0].value, dict)

    def _begin(self, event: Any, line: int) -> None:
        if self._wants_key():
            raise self._problem("a key is a mapping or a list; write a text as key", line)
        if len(self._open) >= MAX_DEPTH:
            raise self._problem(f"is nested more than {MAX_DEPTH} deep; write it flatter", line)
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        if event.anchor:
            self._anchors[event.anchor] = None  # known but not finished: it cannot contain itself
        self._open.append((Node(self._file, line, value), event.anchor, self._key))
        self._key = None

    def _end(self) -> None:
        node, anchor, self._key = self._open.pop()
        if anchor:
            self._anchors[anchor] = node
        self._place(node, node.line, weight=1)

    def _alias(self, anchor: str, line: int) -> None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise self._problem(f"has more than {MAX_ALIASES} aliases; write the values out", line)
        if anchor not in self._anchors:
            raise self._problem(f"alias {shown('*' + anchor)} has no anchor; define it above", line)
        target = self._anchors[anchor]
        if target is None:
            raise self._problem(f"alias {shown('*' + anchor)} contains itself; write the value out", line)
        if self._wants_key():
            raise self._problem("a key is an alias; write the key out", line)
        self._place(target, line, weight=target.size)

    def _scalar(self, event: Any, line: int) -> None:
        if self._wants_key():
            self._take_key(event.value, line)
            return
        value = event.value if event.style else self._plain(event.value, line)
        node = Node(self._file, line, value)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._place(node, line, weight=1)

    def _take_key(self, key: str, line: int) -> None:
        mapping = self._open[-1][0]
        self._key = (key, line)
        if key == "<<":
            raise self._problem("merge keys are not supported; write the fields out", line)
        if key in mapping.children:
            first = mapping.lines[key]
            raise self._problem(f"duplicate key {shown(key)}, first on line {first}; keep one of them", line)

    def _place(self, node: Node, line: int, *, weight: int) -> None:
        self._nodes += weight
        if self._nodes > MAX_NODES:
            raise self._problem(f"has more than {MAX_NODES:,} values (aliases count each time); leave some out", line)
        if not self._open:
            self.root = node
            return
        parent = self._open[-1][0]
        if self._key is None:
            parent.add(len(parent.children), node, line)
        else:
            parent.add(self._key[0], node, self._key[1])
            self._key = None

    def _plain(self, text: str, line: int) -> str | int | float | bool | None:
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                raise self._problem(f"number {shown(text)} is too long; quote it if it is a name", line)
            return int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isfinite(number):
                return number
            raise self._problem(f"number {shown(text)} is too large; quote it if it is a name", line)
        if _NOT_FINITE.fullmatch(text):
            raise self._problem(f"number {shown(text)} is not finite; write a number, or quote a text", line)
        return text


def merged(roots: Sequence[Node]) -> Node:
    """Merges the trees of several files: their sections are joined entry by entry.

    A file of another shape is returned unchanged, so that the check of the shape refuses it.

    Args:
        roots: one or more, in the order of reading.

    Raises:
        RouteTableError: two files define the same entry.
    """
    if len(roots) == 1:
        return roots[0]
    whole = Node(roots[0].file, roots[0].line, {})
    for root in roots:
        if not isinstance(root.value, dict):
            return root
        for section, part in root.children.items():
            if not isinstance(part.value, dict):
                return root
            if section not in whole.children:
                whole.add(section, Node(part.file, part.line, {}), root.lines[section])
            _pour(section, part, into=whole.children[section])
    return whole


def _pour(section: str | int, part: Node, *, into: Node) -> None:
    for name, child in part.children.items():
        if name in into.children:
            earlier = f"{into.children[name].file}:{into.lines[name]}"
            raise RouteTableError(
                f"duplicate key {shown(name)}, first at {earlier}; keep one of them",
                file=part.file,
                line=part.lines[name],
                field=dotted((section, name)),
            )
        into.add(name, child, part.lines[name])
