"""Traefik: a file with one router for each routing key, which it watches."""

from __future__ import annotations

import json
from typing import Any

from lab.plugins.proxies.programs import PROGRAMS
from lab.routing.headers import FORGEABLE
from lab.routing.keys import HEADER
from services.renderer.child import Child
from services.renderer.proxy import Configuration, ProxyRenderer, Upstream

_REMEDY = PROGRAMS["traefik"].remedy
_FILE, _SCRATCH = "dynamic.yaml", "scratch"
_ENTRY = "callers"
_NOBODY, _HEADERS = "nobody", "headers"


class Traefik(Child):
    """Runs Traefik with one processor; see :class:`services.renderer.proxy.Proxy`."""

    async def start(self, configuration: Configuration) -> None:
        """Starts it."""
        self._write(configuration)
        options = {
            "global.checknewversion": "false",
            "global.sendanonymoususage": "false",
            "log.level": "ERROR",
            f"entrypoints.{_ENTRY}.address": configuration.listen,
            f"entrypoints.{_ENTRY}.http2.maxconcurrentstreams": "4096",
            # By default it cuts off streams after 60 s, even active ones.
            f"entrypoints.{_ENTRY}.transport.respondingtimeouts.readtimeout": "0s",
            f"entrypoints.{_ENTRY}.transport.lifecycle.gracetimeout": "4s",
            "providers.file.filename": str(self.folder / _FILE),
            # By default changes wait for 2 s.
            "providers.providersthrottleduration": "20ms",
        }
        argv = ("traefik", *(f"--{name}={value}" for name, value in options.items()))
        self.run(argv, remedy=_REMEDY, environment={"GOMAXPROCS": "1", "HOME": str(self.folder)})

    async def configure(self, configuration: Configuration) -> None:
        """Replaces the file. Open connections follow it with all others."""
        self._write(configuration)

    def _write(self, configuration: Configuration) -> None:
        scratch = self.folder / _SCRATCH
        scratch.write_text(json.dumps(rendered(configuration)))  # which is YAML
        scratch.replace(self.folder / _FILE)


def rendered(configuration: Configuration) -> dict[str, Any]:
    """Traefik's dynamic configuration."""
    names, identity = configuration.names(), configuration.identity
    secured: dict[str, Any] = {"tls": {}} if identity else {}
    routers = {
        f"k{number}": {
            "rule": f"Header(`{HEADER}`, `{key}`)",
            "service": names.get(its, _NOBODY),
            "middlewares": [_HEADERS],
            "priority": 3,
            **secured,
        }
        for number, (key, its) in enumerate(sorted(configuration.upstreams.items()))
    }
    # Without a key, as the other proxies a status that is not UNAVAILABLE: the lab asks so whether a unit is alive.
    # Not with one: the probe of a configuration that is not in force yet would come through.
    rule = f"PathPrefix(`/grpc.health.v1.Health/`) && !HeaderRegexp(`{HEADER}`, `.`)"
    health = {"rule": rule, "service": names[configuration.renderer]}
    routers["health"] = {**health, "priority": 2, **secured}
    # Without it, an unknown key would be 404, which gRPC reads as UNIMPLEMENTED.
    routers["others"] = {"rule": "PathPrefix(`/`)", "service": _NOBODY, "priority": 1, **secured}
    services: dict[str, Any] = {name: _service(each, configuration) for each, name in names.items()}
    services[_NOBODY] = {"loadBalancer": {"servers": []}}
    changed = dict.fromkeys(FORGEABLE, "") | {"Via": configuration.via}  # an empty value removes
    middlewares = {_HEADERS: {"headers": {"customRequestHeaders": changed}}}
    document: dict[str, Any] = {"http": {"routers": routers, "services": services, "middlewares": middlewares}}
    if identity is not None:
        certificate = {"certFile": str(identity / "cert.pem"), "keyFile": str(identity / "key.pem")}
        authorities = [str(identity / "ca.pem")]
        # By host name, so that they keep their connections when the upstreams change.
        document["http"]["serversTransports"] = {
            each.host_name: {"serverName": each.host_name, "rootCAs": authorities, "certificates": [certificate]}
            for each in names
        }
        client = {"caFiles": authorities, "clientAuthType": "RequireAndVerifyClientCert"}
        options = {"minVersion": "VersionTLS13", "alpnProtocols": ["h2"], "clientAuth": client}
        document["tls"] = {
            "stores": {"default": {"defaultCertificate": certificate}},
            "options": {"default": options},
        }
    return document


def _service(upstream: Upstream, configuration: Configuration) -> dict[str, Any]:
    identity = configuration.identity
    servers = [{"url": f"{'https' if identity else 'h2c'}://{each}"} for each in upstream.addresses]
    transport = {"serversTransport": upstream.host_name} if identity else {}
    forwarding = {"strategy": configuration.picks, "responseForwarding": {"flushInterval": "-1ms"}}
    return {"loadBalancer": {"servers": servers, **forwarding, **transport}}


RENDERER = ProxyRenderer(
    name="traefik",
    configures="a file with one router for each key, which it watches",
    proxy=Traefik,
)
