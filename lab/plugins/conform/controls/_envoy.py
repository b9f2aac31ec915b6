"""Its own Envoy: all that a table of routes may ask for, in files of xDS that Envoy watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from lab.errors import UnitError
from lab.routing.headers import FORGEABLE
from services.renderer.child import Child

if TYPE_CHECKING:
    from lab.plugins.conform.control import Document

_REMEDY = "install the lab as its README says, Envoy comes with it"
_CLUSTERS, _ROUTES, _ADMIN, _BOOTSTRAP = "clusters.json", "routes.json", "admin.sock", "envoy.json"
_VERSIONS = {_CLUSTERS: "cluster_manager.cds.version_text", _ROUTES: "http.conform.rds.conform.version_text"}
_WITHIN_S, _PAUSE_S = 10.0, 0.01
_TYPES = "type.googleapis.com/envoy"
_HEADERS_KB = 96

Spec = dict[str, Any]


class Envoy:
    """Runs Envoy as a child of this process."""

    def __init__(self) -> None:
        self._child = Child()
        self._runs = False
        self._previous: list[Spec] = []

    async def apply(self, table: Document) -> None:
        """Writes the files, and returns once Envoy follows: clusters first, then the routes that need them.

        Raises:
            UnitError: it cannot be started, or keeps its configuration.
        """
        version, folder = str(table["revision"]), self._child.folder
        current = list(clusters(table))
        names = {each["name"] for each in current}
        _write(folder / _CLUSTERS, version, [*current, *(each for each in self._previous if each["name"] not in names)])
        if self._runs:
            await self._followed(_CLUSTERS, version)
        _write(folder / _ROUTES, version, [routes(table)])
        if not self._runs:
            (folder / _BOOTSTRAP).write_text(json.dumps(bootstrap(folder, table["address"])))
            flags = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
            self._child.run(("envoy", "--config-path", str(folder / _BOOTSTRAP), *flags), remedy=_REMEDY)
            self._runs = True
            await self._child.listening(folder / _ADMIN)
        await self._followed(_ROUTES, version)
        self._previous = current

    async def stop(self, within_s: float) -> None:
        """Ends it."""
        await self._child.stop(within_s)

    async def _followed(self, file: str, version: str) -> None:
        """Waits until Envoy has the version of a file."""
        wanted = f'{_VERSIONS[file]}: "{version}"'
        connector = aiohttp.UnixConnector(str(self._child.folder / _ADMIN))
        try:
            async with asyncio.timeout(_WITHIN_S), aiohttp.ClientSession(connector=connector) as admin:
                while True:
                    async with admin.get("http://localhost/stats?filter=version_text") as answer:
                        if wanted in (await answer.text()).splitlines():
                            return
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise UnitError(f"Envoy keeps its {file}: {self._child.last_line or 'it says nothing'}") from None


def _write(file: Path, version: str, resources: list[Spec]) -> None:
    """Replaces a file, as Envoy watches for files that are moved to its place."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"version_info": version, "resources": resources}))
    new.rename(file)


def bootstrap(folder: Path, listen: str) -> Spec:
    """What Envoy starts with; the folder has the files."""

    def watched(file: str) -> Spec:
        return {"path_config_source": {"path": str(folder / file)}, "resource_api_version": "V3"}

    router = {"@type": f"{_TYPES}.extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "conform",
        "codec_type": "HTTP2",
        "max_request_headers_kb": _HEADERS_KB,
        "common_http_protocol_options": {"max_headers_count": 200},
        "stream_idle_timeout": "0s",
        "rds": {"route_config_name": "conform", "config_source": watched(_ROUTES)},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    listener = {
        "name": "conform",
        "address": _socket(listen),
        "enable_reuse_port": False,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {
        "node": {"id": "conform", "cluster": "conform"},
        "admin": {"address": {"pipe": {"path": str(folder / _ADMIN)}}},
        "dynamic_resources": {"cds_config": watched(_CLUSTERS)},
        "static_resources": {"listeners": [listener]},
    }


def clusters(table: Document) -> Iterator[Spec]:
    """One for each set of models among which requests go in turn, without repetition."""
    found = {}
    for route in table["routes"]:
        groups = [[each] for each in route["backends"]] if _is_split(route) else [route["backends"]]
        for group in (*groups, *([[route["shadow"]]] if "shadow" in route else [])):
            found[_name(group)] = [each["address"] for each in group]
    for name, addresses in found.items():
        options = {
            "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
            "common_http_protocol_options": {"max_headers_count": 200, "max_response_headers_kb": _HEADERS_KB},
        }
        endpoints = [{"endpoint": {"address": _socket(each)}} for each in addresses]
        yield {
            "@type": f"{_TYPES}.config.cluster.v3.Cluster",
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        }


def routes(table: Document) -> Spec:
    """The routes in the order of the table; a key without one is UNAVAILABLE, as in every topology of the lab."""
    refusal = {"status": 503, "body": {"inline_string": "no such routing key"}}
    all_of_them = [_route(each, table["header"]) for each in table["routes"]]
    host = {
        "name": "conform",
        "domains": ["*"],
        "request_headers_to_remove": [*FORGEABLE],
        "routes": [*all_of_them, {"match": {"prefix": "/"}, "direct_response": refusal}],
    }
    return {"@type": f"{_TYPES}.config.route.v3.RouteConfiguration", "name": "conform", "virtual_hosts": [host]}


def _route(route: Spec, header: str) -> Spec:
    wanted = {header: route["key"], **route.get("conditions", {})}
    path = {"path": route["method"]} if "method" in route else {"prefix": "/"}
    retries = {"retry_on": "connect-failure,refused-stream", "num_retries": 2}
    action: Spec = {"timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}, "retry_policy": retries}
    if _is_split(route):
        shares = [{"name": _name([each]), "weight": each["weight"]} for each in route["backends"]]
        action["weighted_clusters"] = {"clusters": shares, "use_hash_policy": "sticky" in route}
    else:
        action["cluster"] = _name(route["backends"])
    if "sticky" in route:
        action["hash_policy"] = [{"header": {"header_name": route["sticky"]}}]
    if "shadow" in route:
        action["request_mirror_policies"] = [{"cluster": _name([route["shadow"]])}]
    return {
        "match": {
            **path,
            "headers": [{"name": name, "string_match": {"exact": value}} for name, value in wanted.items()],
        },
        "route": action,
    }


def _is_split(route: Spec) -> bool:
    return "sticky" in route or len({each["weight"] for each in route["backends"]}) > 1


def _name(group: list[Spec]) -> str:
    return "-".join(f"{each['model']}-{each['address']}" for each in group)


def _socket(address: str) -> Spec:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
