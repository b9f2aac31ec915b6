"""Reads from the text of a locustfile what its tasks decide; the rest of a request is drawn as in any other run."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator

EVERYTHING = frozenset({"use_case"})
"""What decides the use case decides with it which payloads and streams there are."""

_ASK = "ask"
_PARAMETERS = ("use_case", "context", "payload")
_LOCUST = ("locust", "lab.plugins.locust", "lab.load.locust")  # the last is its former name


def decided_by(text: str) -> frozenset[str]:
    """Returns the fields of a request that the tasks decide; :data:`EVERYTHING` if the text does not say.

    It says so if each use of ``ask`` is a call that names its arguments and, in a literal, the fields of its context,
    and if nothing is imported that may call it, too.
    """
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # of a saved run whose file was changed
        return EVERYTHING
    calls = [node for node in nodes if isinstance(node, ast.Call) and _name(node.func) == _ASK]
    if len(calls) < sum(_name(node) == _ASK for node in nodes) or not all(map(_is_known, _imported(nodes))):
        return EVERYTHING
    fields = {field for call in calls for field in _fields_of(call)}
    return frozenset(fields | {"user_id"} if any(_name(node) == "user_id" for node in nodes) else fields)


def _name(node: ast.AST) -> str:
    """What a node refers to by a name or a text."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name) | ast.FunctionDef(name=name) | ast.Constant(value=str(name)):
            return name
        case _:
            return ""


def _imported(nodes: Iterable[ast.AST]) -> set[str]:
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {f"{'.' * node.level}{node.module or ''}" for node in nodes if isinstance(node, ast.ImportFrom)}


def _is_known(module: str) -> bool:
    return module in _LOCUST or module.partition(".")[0] in sys.stdlib_module_names


def _fields_of(call: ast.Call) -> Iterator[str]:
    given = [*zip(_PARAMETERS, call.args, strict=False), *((each.arg, each.value) for each in call.keywords)]
    for parameter, value in given:
        if parameter == "context" and isinstance(value, ast.Dict):
            yield from (_name(key) if isinstance(key, ast.Constant) else "use_case" for key in value.keys)
        elif parameter == "payload":
            yield "payload_bytes"
        else:
            yield "use_case"
