"""A route table as GRPCRoutes of Gateway API, for all targets that read them.

Two kinds of requests are routed. A request with a routing key, which a resolver has decided, goes to the cluster of
that key. Any other request is decided by the rules, from the headers of its use case and its context; its routing key
is added on the way to the model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lab.identity.names import host_name
from lab.plugins.render._decisions import (
    USE_CASE_HEADER,
    Cube,
    Entry,
    TooManyError,
    covers,
    entries_of,
    exact,
    header_of,
    in_header,
    meet,
)
from lab.plugins.render._target import REFUSED, Source, Unexpressed
from lab.plugins.render._timeouts import timeouts_of_keys
from lab.plugins.render._unexpressed import expressed_otherwise
from lab.routing.compiled import Router
from lab.routing.headers import FORGEABLE
from lab.routing.keys import HEADER, version_key
from lab.routing.uses import Grant, grants_of
from models.apis import APIS

if TYPE_CHECKING:
    from lab.routing.document import RouteTable
    from lab.routing.resilience import Policy
    from lab.routing.rules import UseCase

Manifest = dict[str, Any]

PORT = 9000
"""Port of a model cluster's Service."""
AUTHORITY = "lab-authority"
"""ConfigMap with the certificate of the authority that signs models' certificates, as ``ca.crt``."""
API = "gateway.networking.k8s.io/v1"

MAX_RULES, MAX_MATCHES, MAX_MATCHES_OF_RULE, MAX_VALUE = 16, 128, 64, 4096
"""Limits of one GRPCRoute, from its definition: rules, matches in all rules, in one rule, characters of a header."""
_MOST_CUBES = 1_000


@dataclass(frozen=True, slots=True)
class KeyRoutes:
    """Routes of routing keys with the same settings.

    Attributes:
        names: of the routes.
        policy: resilience settings of the keys, None if there are none.
        timeout_s: of the requests, seconds; None without timeouts, or if no use case is answered by these keys.
    """

    names: Sequence[str]
    policy: Policy | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Routes:
    """The GRPCRoutes of a route table.

    Attributes:
        routes: manifests.
        of_use_case: use case → name of the route with its rules.
        of_keys: the routes of keys, by their settings.
        unexpressed: rules that they do not express.
    """

    routes: Sequence[Manifest]
    of_use_case: Mapping[str, str]
    of_keys: Sequence[KeyRoutes]
    unexpressed: Sequence[Unexpressed]


def routes_of(
    source: Source, parent: Manifest, *, has_timeouts: bool = True, max_matches_of_rule: int = MAX_MATCHES_OF_RULE
) -> Routes:
    """The GRPCRoutes of a route table, attached to a parent.

    Routes of keys match the gRPC service, routes of use cases do not. The former therefore take precedence, and a
    request that has a routing key is not decided a second time. With timeouts, keys of one route have the same timeout.
    """
    table, router = source.table, Router.of_document(source.table.document)
    names, grants = kubernetes_names(router.use_cases), grants_of(table)
    unexpressed: list[Unexpressed] = []
    routes: list[Manifest] = []
    of_keys: list[KeyRoutes] = []
    numbers: Counter[str] = Counter()
    for (use_case, timeout_s), keys in _by_settings(table, timeouts_of_keys(table) if has_timeouts else {}).items():
        prefix = f"keys-of-{names[use_case]}" if use_case else "keys"
        mine: list[str] = []
        for start in range(0, len(keys), MAX_RULES):
            numbers[prefix] += 1
            mine.append(f"{prefix}-{numbers[prefix]}")
            rules = [_rule_of_key(table, key, grants[key]) for key in keys[start : start + MAX_RULES]]
            routes.append(_route(mine[-1], parent, rules))
        of_keys.append(KeyRoutes(mine, router.use_cases[use_case].policy if use_case else None, timeout_s))
    for name, each in router.use_cases.items():
        unexpressed += expressed_otherwise(each, table.document)
        try:
            rules = _rules(table, each, entries_of(each, table), max_matches_of_rule)
        except TooManyError as error:
            unexpressed.append(Unexpressed(("use_cases", name), str(error), REFUSED))
            rules = [{"matches": [{"headers": [_header(USE_CASE_HEADER, name)]}]}]
        routes.append(_route(names[name], parent, rules))
    return Routes(routes, names, of_keys, unexpressed)


def kubernetes_names(use_cases: Iterable[str]) -> dict[str, str]:
    """Use case → its own name for its objects: ``continue-watching-ranking``."""
    found: dict[str, str] = {}
    for use_case in use_cases:
        plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", use_case).lower()
        taken, name, number = set(found.values()), plain, 2
        while name in taken:
            name, number = f"{plain}-{number}", number + 1
        found[use_case] = name
    return found


def _by_settings(table: RouteTable, timeouts: Mapping[str, float]) -> dict[tuple[str, float | None], list[str]]:
    """A use case and a timeout → the routing keys that have its resilience settings; empty text → those without any."""
    owner = {
        key: name
        for name, use_case in Router.of_document(table.document).use_cases.items()
        if use_case.policy is not None
        for key in use_case.answering
    }
    found: dict[tuple[str, float | None], list[str]] = {}
    for key in table.versions:
        found.setdefault((owner.get(version_key(key), ""), timeouts.get(key)), []).append(key)
    return found


def _rule_of_key(table: RouteTable, key: str, grant: Grant) -> Manifest:
    apis = grant.apis or frozenset(APIS)
    matches = [
        {"method": {"service": APIS[api].service}, "headers": [_header(HEADER, key)]} for api in sorted(apis & {*APIS})
    ]
    return {"matches": matches, "filters": [_modifier()], "backendRefs": [_backend(table, key)]}


def _rules(table: RouteTable, use_case: UseCase, entries: Sequence[Entry], max_matches_of_rule: int) -> list[Manifest]:
    """The rules of a use case.

    Raises:
        TooManyError: one route cannot hold them.
    """
    groups = [list(group) for _, group in groupby(entries, key=lambda each: each.shares)]
    found: list[Manifest] = []
    for group, cubes in zip(groups, _closed([[each.where for each in group] for group in groups]), strict=True):
        matches = [_match(use_case.name, where) for cube in cubes for where in exact(cube)]
        starts = range(0, len(matches), max_matches_of_rule)
        to = _to(table, group[0].shares)
        found += [{"matches": matches[start : start + max_matches_of_rule], **to} for start in starts]
    if (number := sum(len(rule["matches"]) for rule in found)) > MAX_MATCHES:
        raise TooManyError(f"its rules need {number} matches, and a GRPCRoute holds {MAX_MATCHES}")
    if len(found) > MAX_RULES:
        raise TooManyError(f"its rules need {len(found)} rules, and a GRPCRoute holds {MAX_RULES}")
    if any(
        len(header["value"]) > MAX_VALUE for rule in found for match in rule["matches"] for header in match["headers"]
    ):
        raise TooManyError(f"a value has more than {MAX_VALUE} characters as a header")
    return found


def _closed(groups: Sequence[Sequence[Cube]]) -> list[list[Cube]]:
    """The groups, with cubes added such that the first group that holds a request has the match with most headers.

    Gateway API prefers the match with the most headers before the order of rules; order decides only between equals.
    So each group also gets its intersections with later cubes that have more headers.
    """
    later: list[Cube] = []
    found: list[list[Cube]] = []
    for group in reversed(groups):
        mine = list(group)
        for one in group:
            for other in later:
                both = meet(one, other) if len(other) > len(one) else None
                if both is not None and not any(covers(each, both) and len(each) >= len(other) for each in mine):
                    mine.append(both)
        later += mine
        if len(later) > _MOST_CUBES:
            raise TooManyError(f"its rules need more than {_MOST_CUBES} combinations of headers")
        found.append(mine)
    return found[::-1]


def _match(use_case: str, where: Mapping[str, str | None]) -> Manifest:
    fields = [_header(header_of(field), None if value is None else in_header(value)) for field, value in where.items()]
    return {"headers": [_header(USE_CASE_HEADER, use_case), *fields]}


def _header(name: str, value: str | None) -> Manifest:
    return (
        {"name": name, "value": value}
        if value is not None
        else {"type": "RegularExpression", "name": name, "value": ".+"}
    )


def _to(table: RouteTable, shares: Mapping[str, int]) -> Manifest:
    """Where a rule sends its requests; a rule without backends refuses them as UNAVAILABLE."""
    if not shares:
        return {}
    if len(shares) == 1:
        (key,) = shares
        return {"filters": [_modifier(key)], "backendRefs": [_backend(table, key)]}
    return {
        "backendRefs": [
            {**_backend(table, key), "weight": weight, "filters": [_modifier(key)]} for key, weight in shares.items()
        ]
    }


def _modifier(key: str = "") -> Manifest:
    """Removes the headers of picks, which a client may have forged; with a routing key it sets that."""
    changes: Manifest = {"remove": [*FORGEABLE], **({"set": [{"name": HEADER, "value": key}]} if key else {})}
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": changes}


def _backend(table: RouteTable, key: str) -> Manifest:
    return {"name": table.versions[key].cluster, "port": PORT}


def _route(name: str, parent: Manifest, rules: Sequence[Manifest]) -> Manifest:
    return {
        "apiVersion": API,
        "kind": "GRPCRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [parent], "rules": list(rules)},
    }


def backend_tls(clusters: Iterable[str]) -> Iterator[Manifest]:
    """For each model cluster the policy by which a gateway checks its certificate."""
    for cluster in clusters:
        yield {
            "apiVersion": API,
            "kind": "BackendTLSPolicy",
            "metadata": {"name": cluster},
            "spec": {
                "targetRefs": [{"group": "", "kind": "Service", "name": cluster}],
                "validation": {
                    "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": AUTHORITY}],
                    "hostname": host_name(f"model/{cluster}"),
                },
            },
        }
