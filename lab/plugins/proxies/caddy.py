"""Caddy: one document of JSON, which its admin API replaces as a whole."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import aiohttp

from lab.errors import UnitError
from lab.identity import OPERATOR, TRUST_DOMAIN
from lab.plugins.proxies.programs import PROGRAMS
from lab.routing.headers import FORGEABLE
from lab.routing.keys import HEADER, PATTERN
from services.renderer.child import Child
from services.renderer.proxy import Configuration, ProxyRenderer, Upstream

_REMEDY = PROGRAMS["caddy"].remedy
_FILE, _SOCKET = "caddy.json", "admin.sock"
_BACKLOG = 4096
_INVALID, _DENIED, _UNAVAILABLE = 3, 7, 14
_KEY, _UPSTREAM = f"{{http.request.header.{HEADER}}}", "{lab.upstream}"
_URI, _SECOND_URI = (f"{{http.request.tls.client.san.uris.{number}}}" for number in range(2))
_NO_REPLICA = "none"


class Caddy(Child):
    """Runs Caddy with one processor; see :class:`services.renderer.proxy.Proxy`.

    It has its listening socket from here, as from systemd. Of itself, it makes another one for each configuration: the
    connections that wait at the previous one are lost.

    Each configuration is its own server. A connection that becomes one of HTTP/2 just after its server was asked
    to end is never asked to go (golang/go#81153), so that server passes its requests on to the current one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listener = socket.socket()
        self._configurations = 0
        self._not_replaced: list[Path] = []

    async def start(self, configuration: Configuration) -> None:
        """Starts it."""
        host, _, port = configuration.listen.rpartition(":")
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, int(port)))
        self._listener.listen(_BACKLOG)
        (self.folder / _FILE).write_text(json.dumps(self._rendered(configuration)))
        home = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(self.folder))
        argv = ("caddy", "run", "--config", str(self.folder / _FILE))
        self.run(argv, remedy=_REMEDY, environment={"GOMAXPROCS": "1", **home}, listener=self._listener)
        await self.listening(self.folder / _SOCKET)

    async def configure(self, configuration: Configuration) -> None:
        """Replaces the configuration; Caddy asks clients of the previous one to connect again."""
        document = self._rendered(configuration)
        connector = aiohttp.UnixConnector(str(self.folder / _SOCKET))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://localhost/load", json=document) as answer,
        ):
            if not answer.ok:
                raise UnitError(f"caddy: {(await answer.text()).strip()}")
        *replaced, current = self._not_replaced
        for marker in replaced:
            marker.touch()
        self._not_replaced = [current]

    def _rendered(self, configuration: Configuration) -> dict[str, Any]:
        self._configurations += 1
        self._not_replaced.append(self.folder / f"replaced-{self._configurations}")
        return rendered(configuration, self.folder, f"fd/{self._listener.fileno()}", self._not_replaced[-1])


def rendered(configuration: Configuration, folder: Path, listen: str, replaced: Path) -> dict[str, Any]:
    """Caddy's configuration.

    Args:
        configuration: what it is to do.
        folder: for its files.
        listen: where it serves, in its own terms.
        replaced: a file that exists once this configuration has been replaced.
    """
    identity = configuration.identity
    server = {
        "listen": [listen],
        "protocols": ["h1", "h2"] if identity else ["h1", "h2c"],
        "automatic_https": {"disable": True},
        "max_header_bytes": 65_536,
        "routes": _routes(configuration, replaced),
        "errors": {"routes": [{"handle": [_refusal(_UNAVAILABLE, f"routing key '{_KEY}': no healthy replica")]}]},
    }
    apps: dict[str, Any] = {"http": {"servers": {"lab": server}}}
    if identity is not None:
        authorities = {"provider": "file", "pem_files": [str(identity / "ca.pem")]}
        client = {"mode": "require_and_verify", "ca": authorities}
        policy = {"client_authentication": client, "alpn": ["h2"], "protocol_min": "tls1.3"}
        server |= {"strict_sni_host": False, "tls_connection_policies": [policy]}
        file = {"certificate": str(identity / "cert.pem"), "key": str(identity / "key.pem")}
        apps["tls"] = {"certificates": {"load_files": [file]}}
    return {
        "admin": {"listen": f"unix/{folder / _SOCKET}|0600", "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": apps,
    }


def _routes(configuration: Configuration, replaced: Path) -> list[dict[str, Any]]:
    names = configuration.names()
    mappings = [
        {"input": key, "outputs": [names.get(its, _NO_REPLICA)]} for key, its in configuration.upstreams.items()
    ]
    lookup = {"handler": "map", "source": _KEY, "destinations": [_UPSTREAM], "mappings": mappings, "defaults": [""]}
    strict = {"vars_regexp": {_KEY: {"pattern": f"^{PATTERN}$"}}}
    admitted = f"^spiffe://{TRUST_DOMAIN}/(caller/|{OPERATOR}/|{configuration.node}$)"
    caller = {"vars_regexp": {_URI: {"pattern": admitted}}, "vars": {_SECOND_URI: [""]}}
    refusals = [_unless(caller, _refusal(_DENIED, "for callers only"))] if configuration.identity else []
    current = Upstream((configuration.listen,), configuration.renderer.host_name)
    go_away = {"handler": "headers", "response": {"set": {"Connection": ["close"]}}}
    return [
        *refusals,
        {
            "match": [{"file": {"root": str(replaced.parent), "try_files": [replaced.name]}}],
            "handle": [go_away, _forwarding(current, configuration)],
            "terminal": True,
        },
        _unless(strict, _refusal(_INVALID, "routing key: send exactly one, of the form model.v1")),
        {"handle": [lookup]},
        *(_when(name, _forwarding(each, configuration)) for each, name in names.items()),
        _when(_NO_REPLICA, _refusal(_UNAVAILABLE, f"routing key '{_KEY}': no healthy replica")),
        {"handle": [_refusal(_UNAVAILABLE, f"routing key '{_KEY}': no such key")]},
    ]


def _unless(condition: dict[str, Any], handler: dict[str, Any]) -> dict[str, Any]:
    return {"match": [{"not": [condition]}], "handle": [handler], "terminal": True}


def _when(upstream: str, handler: dict[str, Any]) -> dict[str, Any]:
    return {"match": [{"vars": {_UPSTREAM: [upstream]}}], "handle": [handler], "terminal": True}


def _refusal(status: int, message: str) -> dict[str, Any]:
    headers = {"Content-Type": ["application/grpc"], "Grpc-Status": [str(status)], "Grpc-Message": [message]}
    return {"handler": "static_response", "status_code": 200, "headers": headers}


def _forwarding(upstream: Upstream, configuration: Configuration) -> dict[str, Any]:
    identity = configuration.identity
    transport: dict[str, Any] = {"protocol": "http", "versions": ["2"] if identity else ["h2c"]}
    if identity is not None:
        transport["tls"] = {
            "client_certificate_file": str(identity / "cert.pem"),
            "client_certificate_key_file": str(identity / "key.pem"),
            "ca": {"provider": "file", "pem_files": [str(identity / "ca.pem")]},
            "server_name": upstream.host_name,
        }
    return {
        "handler": "reverse_proxy",
        "headers": {"request": {"set": {"Via": [configuration.via]}, "delete": [*FORGEABLE]}},
        "upstreams": [{"dial": each} for each in upstream.addresses],
        "load_balancing": {"selection_policy": {"policy": configuration.picks}, "retries": 1},
        "flush_interval": -1,
        "transport": transport,
    }


RENDERER = ProxyRenderer(
    name="caddy",
    configures="one document, over its admin API",
    proxy=Caddy,
)
