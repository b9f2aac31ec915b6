"""Where a request goes by Kong's expressions router; knows nothing of how the file was rendered.

https://developer.konghq.com/gateway/routing/expressions/: of all routes whose expression holds, the one with the
highest priority counts. A comparison with a header that the request lacks does not hold.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.plugins.render.dialects.answer import Answer, Request

TOKEN = re.compile(r'\s*(&&|\|\||==|!=|~|\^=|=\^|\(|\)|"(?:[^"\\])*"|[a-z_.0-9]+)')


def answer(documents: Sequence[Mapping[str, Any]], request: Request) -> Answer:
    [document] = documents
    found = []
    for service, route in routes(document):
        tokens = TOKEN.findall(route["expression"])
        assert "".join(tokens) == re.sub(r"\s", "", route["expression"]), route["expression"]
        if "grpcs" in route["protocols"] and disjunction(tokens, request):
            assert not tokens
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
        for added in plugin["config"]["add"]["headers"]:
            name, _, value = added.partition(":")
            headers.setdefault(name, value)
    return {(service["host"], headers.get("x-routing-key", "")): 100}


def routes(document: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for service in document["services"]:
        for route in service["routes"]:
            yield service, route
    for route in document.get("routes", []):
        yield {}, route


def disjunction(tokens: list[str], request: Request) -> bool:
    result = conjunction(tokens, request)
    while tokens and tokens[0] == "||":
        tokens.pop(0)
        result = conjunction(tokens, request) or result
    return result


def conjunction(tokens: list[str], request: Request) -> bool:
    result = term(tokens, request)
    while tokens and tokens[0] == "&&":
        tokens.pop(0)
        result = term(tokens, request) and result
    return result


def term(tokens: list[str], request: Request) -> bool:
    first = tokens.pop(0)
    if first == "(":
        result = disjunction(tokens, request)
        assert tokens.pop(0) == ")"
        return result
    operator, literal = tokens.pop(0), tokens.pop(0)[1:-1]
    assert first.startswith("http.headers.")
    name = first.removeprefix("http.headers.").replace("_", "-")
    if name not in request.headers:
        return False
    value = request.headers[name]
    match operator:
        case "==":
            return value == literal
        case "!=":
            return value != literal
        case "~":
            return re.search(literal, value) is not None
    raise AssertionError(operator)
