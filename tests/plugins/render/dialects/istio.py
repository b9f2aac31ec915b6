"""Where a request goes by Istio's text on VirtualService; knows nothing of how it was rendered.

https://istio.io/latest/docs/reference/config/networking/virtual-service/: the first route with a match whose conditions
all hold counts; a route without matches always does.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.plugins.render.dialects.answer import Answer, Request


def answer(documents: Sequence[Mapping[str, Any]], request: Request) -> Answer:
    [service] = [each["spec"] for each in documents if each["kind"] == "VirtualService"]
    for route in service["http"]:
        if "match" not in route or any(holds(match, request) for match in route["match"]):
            return forwarded(documents, route, request)
    return {}


def holds(match: Mapping[str, Any], request: Request) -> bool:
    assert set(match) <= {"headers", "withoutHeaders", "uri"}, match
    if not compares(match.get("uri", {}), f"/{request.service}/{request.method}"):
        return False
    headers, without = match.get("headers", {}), match.get("withoutHeaders", {})
    return all(name in request.headers and compares(how, request.headers[name]) for name, how in headers.items()) and (
        not without
        or not all(name in request.headers and compares(how, request.headers[name]) for name, how in without.items())
    )


def compares(how: Mapping[str, str], value: str) -> bool:
    for kind, wanted in how.items():
        match kind:
            case "exact":
                return value == wanted
            case "prefix":
                return value.startswith(wanted)
            case "regex":
                return re.fullmatch(wanted, value) is not None
    return True


def forwarded(documents: Sequence[Mapping[str, Any]], route: Mapping[str, Any], request: Request) -> Answer:
    shares: dict[tuple[str, str], float] = {}
    destinations = route.get("route", [])
    total = sum(each.get("weight", 0) for each in destinations)
    assert total == 100 or len(destinations) <= 1, "weights add up to 100"
    for each in destinations:
        headers = {**request.headers, **setting(route), **setting(each)}
        to = cluster(documents, each["destination"]["host"]), headers.get("x-routing-key", "")
        shares[to] = shares.get(to, 0) + each.get("weight", 100)
    return {to: share for to, share in shares.items() if share}


def setting(part: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = part.get("headers", {}).get("request", {}).get("set", {})
    return found


def cluster(documents: Sequence[Mapping[str, Any]], host: str) -> str:
    [entry] = [each["spec"] for each in documents if each["kind"] == "ServiceEntry" and host in each["spec"]["hosts"]]
    [endpoint] = entry["endpoints"]
    return str(endpoint["address"])
