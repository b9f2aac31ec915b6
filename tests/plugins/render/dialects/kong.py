"""Where a request goes by Kong's expressions router; knows nothing of how the file was rendered.

https://developer.konghq.com/gateway/routing/expressions/: of all routes whose expression holds, the one with the
highest priority counts. A comparison with a header that the request lacks does not hold.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from tests.plugins.render.dialects.answer import Answer, Request

TOKEN = re.compile(r'\s*(&&|\|\||==|!=|~|\^=|=\^|\(|\)|"(?:[^"\\])*"|[a-z_.0-9]+)')
COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "~": lambda value, pattern: re.search(pattern, value) is not None,
}
Condition: TypeAlias = Callable[[Request], bool]


def answer(documents: Sequence[Mapping[str, Any]], request: Request) -> Answer:
    [document] = documents
    found = []
    for service, route in routes(document):
        if "grpcs" in route["protocols"] and condition(route["expression"])(request):
            found.append((route["priority"], service, route))
    if not found:
        return {}
    highest = max(priority for priority, _, _ in found)
    [(_, service, route)] = [each for each in found if each[0] == highest]  # two would be in no order
    headers = dict(request.headers)
    for plugin in route.get("plugins", []):
        if plugin["name"] == "request-termination":
            return {}
        assert plugin["name"] == "request-transformer"
        for name in plugin["config"].get("remove", {}).get("headers", []):
            headers.pop(name, None)
        for added in plugin["config"].get("add", {}).get("headers", []):
            name, _, value = added.partition(":")
            headers.setdefault(name, value)
    return {(service["host"], headers.get("x-routing-key", "")): 100}


def routes(document: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for service in document["services"]:
        for route in service["routes"]:
            yield service, route
    for route in document.get("routes", []):
        yield {}, route


@cache
def condition(expression: str) -> Condition:
    tokens = TOKEN.findall(expression)
    assert "".join(tokens) == re.sub(r"\s", "", expression), expression
    parsed = disjunction(tokens)
    assert not tokens
    return parsed


def disjunction(tokens: list[str]) -> Condition:
    parts = [conjunction(tokens)]
    while tokens and tokens[0] == "||":
        tokens.pop(0)
        parts.append(conjunction(tokens))
    return lambda request: any(part(request) for part in parts)


def conjunction(tokens: list[str]) -> Condition:
    parts = [term(tokens)]
    while tokens and tokens[0] == "&&":
        tokens.pop(0)
        parts.append(term(tokens))
    return lambda request: all(part(request) for part in parts)


def term(tokens: list[str]) -> Condition:
    first = tokens.pop(0)
    if first == "(":
        result = disjunction(tokens)
        assert tokens.pop(0) == ")"
        return result
    holds, literal = COMPARISONS[tokens.pop(0)], tokens.pop(0)[1:-1]
    assert first.startswith("http.headers.")
    name = first.removeprefix("http.headers.").replace("_", "-")
    return lambda request: name in request.headers and holds(request.headers[name], literal)
