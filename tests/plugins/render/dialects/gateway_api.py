"""Where a request goes by Gateway API's text on GRPCRoute; knows nothing of how routes were rendered.

https://gateway-api.sigs.k8s.io/reference/spec/#grpcrouterule: of all matches that hold, the one counts that has the
most characters in its service, then in its method, then the most headers, then that of the oldest route, then of the
first in the alphabet, then the first in the route.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tests.plugins.render.dialects.answer import Answer, Request


def answer(documents: Iterable[Mapping[str, Any]], request: Request) -> Answer:
    found = []
    for route in documents:
        if route["kind"] != "GRPCRoute":
            continue
        found += [
            (precedence(match), route["metadata"]["name"], number, rule)
            for number, rule in enumerate(route["spec"]["rules"])
            for match in rule.get("matches", [{}])
            if holds(match, request)
        ]
    if not found:
        return {}
    best = max(each[0] for each in found)
    equal = [each for each in found if each[0] == best]
    assert len({name for _, name, _, _ in equal}) == 1, "the age of routes would decide"
    return forwarded(min(equal, key=lambda each: each[2])[3], request)


def precedence(match: Mapping[str, Any]) -> tuple[int, int, int]:
    method = match.get("method", {})
    return len(method.get("service", "")), len(method.get("method", "")), len(match.get("headers", []))


def holds(match: Mapping[str, Any], request: Request) -> bool:
    method = match.get("method", {})
    if method.get("service", request.service) != request.service:
        return False
    if method.get("method", request.method) != request.method:
        return False
    considered: set[str] = set()
    for header in match.get("headers", []):
        name = header["name"].lower()
        if name in considered:  # only the first entry of a name is considered
            continue
        considered.add(name)
        value = request.headers.get(name)
        if value is None:
            return False
        if header.get("type", "Exact") == "Exact":
            if value != header["value"]:
                return False
        elif not re.fullmatch(header["value"], value):
            return False
    return True


def forwarded(rule: Mapping[str, Any], request: Request) -> Answer:
    backends = rule.get("backendRefs", [])
    total = sum(backend.get("weight", 1) for backend in backends)
    shares: dict[tuple[str, str], float] = {}
    for backend in backends:
        headers = filtered(filtered(request.headers, rule), backend)
        to = backend["name"], headers.get("x-routing-key", "")
        shares[to] = shares.get(to, 0) + 100 * backend.get("weight", 1) / total
    return {to: share for to, share in shares.items() if share}


def filtered(headers: Mapping[str, str], part: Mapping[str, Any]) -> dict[str, str]:
    found = dict(headers)
    for each in part.get("filters", []):
        assert each["type"] == "RequestHeaderModifier", each
        for name in each["requestHeaderModifier"].get("remove", []):
            found.pop(name.lower(), None)
        for header in each["requestHeaderModifier"].get("set", []):
            found[header["name"].lower()] = header["value"]
    return found
