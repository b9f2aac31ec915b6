"""Kong: one declarative file for its expressions router, which compares exactly and takes priorities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.plugins.render._decisions import USE_CASE_HEADER, Cube, Entry, TooManyError, entries_of, header_of, in_header
from lab.plugins.render._target import REFUSED, Rendering, Source, Target, Unexpressed, yaml_of
from lab.plugins.render._unexpressed import (
    CORE,
    Limitation,
    Reasons,
    expressed_otherwise,
    unexpressed_security,
    unexpressed_settings,
)
from lab.routing.compiled import Router
from lab.routing.headers import FORGEABLE
from lab.routing.keys import HEADER
from lab.routing.uses import policies_of

if TYPE_CHECKING:
    from lab.routing.document import RouteTable
    from lab.routing.resilience import Policy
    from lab.routing.rules import UseCase

PORT = 9000
_COMMENT = """\
Start Kong with KONG_ROUTER_FLAVOR=expressions: its other routers compare headers without regard to case.
A request with a routing key goes to its model version; any other is decided by its headers."""
_TLS = Limitation(
    "a Kong service has tls_verify and client_certificate for https only, and Kong refuses them for grpcs",
    "Kong encrypts, but presents no certificate and verifies none, so models that ask for one refuse its connections",
)
_SPLIT = Limitation("a Kong route has one service, and cannot add a routing key for each of several", REFUSED)
_CONNECTS = Limitation("Kong tries again only if it cannot connect, whatever the status", "retries of connections")
REASONS: Reasons = {
    **CORE,
    "timeout": Limitation("Kong limits the pauses of a connection, not the time of a request", "the caller's deadline"),
    "retries": _CONNECTS,
    "retries.budget": Limitation("Kong limits retries of a request, not those in flight", "no budget"),
    "outliers": Limitation("Kong ejects targets of an upstream until a check succeeds, not for a time", "no ejection"),
    "breaker": Limitation("Kong has no limit of requests in flight", "no limit"),
    "health": Limitation("Kong's check of gRPC targets only connects", "no checks"),
    "slow_start": Limitation("Kong has no slow start", "a new replica has its share at once"),
}

_Route = dict[str, Any]


def _render(source: Source) -> Rendering:
    table = source.table
    policies = policies_of(table)
    routes = [{**_route(key, {HEADER: [key]}), "plugins": [_transformer()]} for key in table.versions]
    to: dict[str, list[_Route]] = {key: [route] for key, route in zip(table.versions, routes, strict=True)}
    unexpressed: list[Unexpressed] = []
    refused: list[_Route] = []
    for use_case in Router.of_document(table.document).use_cases.values():
        entries, cannot = _entries(use_case, table)
        drawn = {each.path for each in cannot}
        others = (each for each in expressed_otherwise(use_case, table.document) if each.path not in drawn)
        unexpressed += [*cannot, *others]
        for number, entry in enumerate(entries, 1):
            route = _route(f"{use_case.name}-{number}-{entry.rule}", _headers(use_case.name, entry.where))
            routes.append(route)
            if entry.shares:
                (key,) = entry.shares
                added = {"add": {"headers": [f"{HEADER}:{key}"]}}
                to[key].append({**route, "plugins": [_transformer(added)]})
            else:
                plugin = {"name": "request-termination", "config": {"status_code": 503, "message": "not routable"}}
                refused.append({**route, "plugins": [plugin]})
    priorities = {route["name"]: len(routes) - number for number, route in enumerate(routes)}
    document = {
        "_format_version": "3.0",
        "services": [_service(source, key, policies.get(key), _with(priorities, to[key])) for key in table.versions],
        **({"routes": _with(priorities, refused)} if refused else {}),
    }
    settings = unexpressed_settings(table.document, REASONS)
    return Rendering(
        {"kong.yaml": yaml_of([document], _COMMENT)}, (*unexpressed_security(source, _TLS), *unexpressed, *settings)
    )


def _transformer(more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Removes the headers of picks, which a client may have forged."""
    return {"name": "request-transformer", "config": {"remove": {"headers": [*FORGEABLE]}, **(more or {})}}


def _entries(use_case: UseCase, table: RouteTable) -> tuple[list[Entry], list[Unexpressed]]:
    """The entries; those with several versions are refused, and listed."""
    try:
        entries = entries_of(use_case, table)
    except TooManyError as error:
        everything = Entry("", ("use_cases", use_case.name), {}, {})
        return [everything], [Unexpressed(everything.path, str(error), REFUSED)]
    several = {entry.path: None for entry in entries if len(entry.shares) > 1}
    kept = [entry.refused() if entry.path in several else entry for entry in entries]
    return kept, [Unexpressed(path, *_SPLIT) for path in several]


def _headers(use_case: str, where: Cube) -> dict[str, Sequence[str]]:
    """Header → values, one of which it must have; any if there are none."""
    fields = {header_of(field): sorted(map(in_header, values or ())) for field, values in where.items()}
    return {USE_CASE_HEADER: [use_case], **fields}


def _route(name: str, headers: Mapping[str, Sequence[str]]) -> _Route:
    conditions = []
    for header, values in headers.items():
        field = f"http.headers.{header.replace('-', '_')}"
        options = " || ".join(f'{field} == "{value}"' for value in values) or f'{field} ~ ".+"'
        conditions.append(f"({options})" if len(values) > 1 else options)
    return {"name": name, "protocols": ["grpc", "grpcs"], "expression": " && ".join(conditions)}


def _with(priorities: Mapping[str, int], routes: Sequence[_Route]) -> list[_Route]:
    return [{**route, "priority": priorities[route["name"]]} for route in routes]


def _service(source: Source, key: str, policy: Policy | None, routes: Sequence[_Route]) -> dict[str, Any]:
    retries = policy.retries.attempts - 1 if policy is not None and policy.retries is not None else 0
    return {
        "name": key,
        "protocol": "grpcs" if source.mtls else "grpc",
        "host": source.table.versions[key].cluster,
        "port": PORT,
        "retries": retries,
        "routes": list(routes),
    }


TARGET = Target("kong", "a declarative file with gRPC services and routes by header", _render)
