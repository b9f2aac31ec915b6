"""HAProxy: a map from routing keys to backends, and the backends' servers, which its runtime socket changes."""

from __future__ import annotations

import asyncio
import signal
from itertools import count, islice
from pathlib import Path
from string import Template

from lab.errors import UnitError
from lab.plugins.proxies.programs import PROGRAMS
from lab.routing.headers import FORGEABLE
from lab.routing.keys import HEADER, PATTERN
from services.renderer.admitted import TWO_URIS, admitted
from services.renderer.child import Child
from services.renderer.proxy import Configuration, ProxyRenderer, Upstream

_REMEDY = PROGRAMS["haproxy"].remedy
_FILE, _SOCKET, _MAP, _IDENTITY, _AUTHORITIES = "haproxy.cfg", "runtime.sock", "keys.map", "identity.pem", "ca.pem"
# HAProxy makes servers at run time, but no backends: these are there from the start.
_BACKENDS = 256
_NO_REPLICA = "none"
# A payload must fit into a buffer.
_LINES_AT_ONCE = 200

_CONFIGURATION = Template("""
global
  nbthread 1  # as each Envoy and gateway has one
  stats socket $socket mode 600 level admin
  stats timeout 1m
  maxconn 8192
  hard-stop-after 2s  # a request that its caller has given up would hold it for ever
  tune.bufsize 65536
  tune.http.maxhdr 1024
  tune.h2.fe.max-concurrent-streams 4096
defaults
  mode http
  timeout connect 5s
  timeout client 24d
  timeout server 24d
  timeout http-request 24d
  timeout http-keep-alive 24d
  timeout tunnel 24d
  retries 1
  option redispatch 1
  http-reuse always
  http-error status 503 hdr grpc-status 14 hdr grpc-message "no healthy replica"
frontend callers
  bind $listen $bind
$admitted
  acl one_key req.fhdr_cnt($header) eq 1
  acl strict_key var(txn.key) -m reg ^$pattern$$
  http-request set-var(txn.key) req.fhdr($header)
  http-request return $invalid unless one_key strict_key
  http-request set-var(txn.backend) var(txn.key),map($map)
  http-request return $unknown unless { var(txn.backend) -m found }
  http-request return $dead if { var(txn.backend) -m str $no_replica }
  http-request add-header Via "$via"
$no_picks
  use_backend %[var(txn.backend)]
$backends
""")
_ANSWER = 'status 200 hdr grpc-status {} hdr grpc-message "{}"'
# Files are known to servers that are made later only if one refers to them from the start.
_PRELOAD = "backend preload\n  server unused 127.0.0.1:1 disabled ssl crt {} ca-file {} verify required\n"


class HAProxy(Child):
    """Runs HAProxy with one thread; see :class:`services.renderer.proxy.Proxy`.

    The same replicas are one backend, under any number of keys. A backend whose replicas are no longer asked for is
    free again once its last request has ended.
    """

    graceful = signal.SIGUSR1  # SIGTERM would cut requests off

    def __init__(self) -> None:
        super().__init__()
        self._backends: dict[Upstream, str] = {}
        self._free = [f"b{number}" for number in reversed(range(_BACKENDS))]
        self._servers: dict[str, list[str]] = {}
        self._leaving: list[str] = []
        self._identity: Path | None = None
        self._numbers = count(1)

    async def start(self, configuration: Configuration) -> None:
        """Starts it, and configures it."""
        folder = self.folder
        (folder / _MAP).touch()
        self._identity = configuration.identity
        if self._identity is not None:
            (folder / _IDENTITY).touch(mode=0o600)
            (folder / _IDENTITY).write_text(_certificate_and_key(self._identity))
            (folder / _AUTHORITIES).write_text(_authorities(self._identity))
        (folder / _FILE).write_text(rendered(configuration, folder))
        self.run(("haproxy", "-db", "-f", str(folder / _FILE)), remedy=_REMEDY)
        await self.listening(folder / _SOCKET)
        await self.configure(configuration)

    async def configure(self, configuration: Configuration) -> None:
        """Adds servers, replaces the map in one step, and takes out servers that no key leads to."""
        if configuration.identity is not None and configuration.identity != self._identity:
            await self._replace_certificate(configuration.identity)
        wanted = dict.fromkeys(each for each in configuration.upstreams.values() if each.addresses)
        await self._delete_servers()
        for upstream in wanted:
            if upstream not in self._backends:
                await self._add(upstream, secured=configuration.identity is not None)
        await self._replace_map(configuration)
        for upstream in [each for each in self._backends if each not in wanted]:
            backend = self._backends.pop(upstream)
            for server in self._servers[backend]:
                await self._run(f"set server {backend}/{server} state maint")
            self._leaving.append(backend)

    async def _add(self, upstream: Upstream, *, secured: bool) -> None:
        if not self._free:
            raise UnitError(f"haproxy: its {_BACKENDS} backends are all in use")
        backend = self._free.pop()
        self._servers[backend] = []
        folder = self.folder
        tls = (
            f"ssl crt {folder / _IDENTITY} ca-file {folder / _AUTHORITIES} verify required "
            f"verifyhost {upstream.host_name} ssl-min-ver TLSv1.3 alpn h2"
        )
        for address in upstream.addresses:
            server = f"r{next(self._numbers)}"
            await self._run(f"add server {backend}/{server} {address} proto h2 {tls if secured else ''}", "registered")
            self._servers[backend].append(server)
            await self._run(f"enable server {backend}/{server}")
        self._backends[upstream] = backend

    async def _replace_map(self, configuration: Configuration) -> None:
        path = self.folder / _MAP
        version = (await self._run(f"prepare map {path}", "version created")).split()[-1]
        lines = [f"{key} {self._backends.get(its, _NO_REPLICA)}" for key, its in configuration.upstreams.items()]
        left = iter(lines)
        while some := list(islice(left, _LINES_AT_ONCE)):
            await self._run(f"add map @{version} {path} <<\n" + "\n".join(some) + "\n")
        await self._run(f"commit map @{version} {path}")

    async def _delete_servers(self) -> None:
        """Deletes the servers that are out and have no connection left, and frees the backends without servers."""
        for backend in list(self._leaving):
            servers = self._servers[backend]
            for server in list(servers):
                if "deleted" in await self._ask(f"del server {backend}/{server}"):
                    servers.remove(server)
            if not servers:
                self._leaving.remove(backend)
                self._free.append(backend)

    async def _replace_certificate(self, identity: Path) -> None:
        file = self.folder / _IDENTITY
        if _authorities(identity) != (self.folder / _AUTHORITIES).read_text():
            raise UnitError("haproxy trusts other authorities only after a restart")
        await self._run(f"set ssl cert {file} <<\n{_certificate_and_key(identity)}", "ransaction")
        await self._run(f"commit ssl cert {file}", "Success")
        self._identity = identity

    async def _run(self, command: str, expected: str = "") -> str:
        """The answer to a command, which must contain ``expected``, or be empty if that is."""
        answer = await self._ask(command)
        if expected not in answer or (answer and not expected):
            raise UnitError(f"haproxy: {command.splitlines()[0]}: {answer}")
        return answer

    async def _ask(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self.folder / _SOCKET))
        try:
            writer.write(f"{command}\n".encode())
            return (await reader.read()).decode().strip()
        finally:
            writer.close()


def rendered(configuration: Configuration, folder: Path) -> str:
    """HAProxy's configuration file; its runtime socket does the rest."""
    identity, authorities = folder / _IDENTITY, folder / _AUTHORITIES
    secured = configuration.identity is not None
    bind = f"ssl crt {identity} ca-file {authorities} verify required ssl-min-ver TLSv1.3 alpn h2"
    backends = "".join(f"backend b{number}\n  balance {configuration.picks}\n" for number in range(_BACKENDS))
    return _CONFIGURATION.substitute(
        socket=folder / _SOCKET,
        map=folder / _MAP,
        listen=configuration.listen,
        bind=bind if secured else "proto h2",
        admitted=_admitted(configuration.node) if secured else "",
        header=HEADER,
        via=configuration.via,
        no_picks="\n".join(f"  http-request del-header {name}" for name in FORGEABLE),
        pattern=PATTERN.replace("\\", "\\\\"),
        no_replica=_NO_REPLICA,
        invalid=_ANSWER.format(3, "routing key: send exactly one, of the form model.v1"),
        unknown=_ANSWER.format(14, "routing key").replace(
            'grpc-message "routing key"', "grpc-message \"routing key '%[var(txn.key)]': no such key\""
        ),
        dead=_ANSWER.format(14, "no healthy replica"),
        backends=(_PRELOAD.format(identity, authorities) if secured else "") + backends,
    )


def _admitted(node: str) -> str:
    """Rules that close connections of others than callers, the operator, and the renderer of this unit."""
    return (
        f"  tcp-request session reject unless {{ ssl_c_der,hex -m reg {admitted(node)} }}\n"
        f"  tcp-request session reject if {{ ssl_c_der,hex -m reg {TWO_URIS} }}"
    )


def _certificate_and_key(identity: Path) -> str:
    return "\n".join((identity / name).read_text().strip() for name in ("cert.pem", "key.pem")) + "\n"


def _authorities(identity: Path) -> str:
    return (identity / "ca.pem").read_text()


RENDERER = ProxyRenderer(
    name="haproxy",
    configures="a map and servers, over its runtime socket",
    proxy=HAProxy,
)
