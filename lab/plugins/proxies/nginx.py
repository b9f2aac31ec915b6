"""NGINX: its routing keys are in memory that its workers share, where njs, its JavaScript, finds and replaces them.

So a change needs no SIGHUP, at which all connections would be opened again, those to replicas by as many handshakes as
there are requests. New replicas and new authorities do need it; a new certificate does not, as each handshake reads it.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Collection
from functools import cache
from hashlib import blake2s
from pathlib import Path
from string import Template

import aiohttp

from lab.errors import UnitError
from lab.identity.folder import AUTHORITIES, CERTIFICATE, CURRENT, KEY
from lab.plugins.proxies.programs import PROGRAMS
from lab.routing.headers import FORGEABLE
from lab.routing.keys import PATTERN
from services.renderer.admitted import TWO_URIS, admitted
from services.renderer.child import Child, path_of
from services.renderer.proxy import Configuration, ProxyRenderer, Upstream

_FILE, _SOCKET, _SCRIPT = "nginx.conf", "keys.sock", Path(__file__).with_suffix(".js")
_REMEDY = PROGRAMS["nginx"].remedy
_MODULE = "ngx_http_js_module.so"
_POLL_INTERVAL_S = 0.005
# Between two reloads: all clients connect again after each, and a worker that ends cuts off their handshakes.
_REST_S = 0.3
_LEAVING = b"shutting down"  # in the title of a worker that begins no request any more
_NO_REPLICA = "none"
# Requests at once of a connection, and connections that are kept for the next ones: if a stall makes more, they are all
# opened at once, and their handshakes stall it again.
_MOST = 256

# Several values of a header come joined by commas, which have not the strict form.
_CONFIGURATION = Template(r"""
load_module $module;
daemon off;
worker_processes 1;  # as each Envoy and gateway has one thread
worker_shutdown_timeout 10s;  # a connection that is opened during a reload may keep to the old worker for ever
pid nginx.pid;
$user
error_log stderr crit;  # one line per failed request is too much
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  map_hash_max_size 65536;
  map_hash_bucket_size 256;
  js_import lab from "$script";
  js_shared_dict_zone zone=keys:16m;
  js_set $$upstream lab.upstream;
  map $$http_x_routing_key $$key { default ""; "~^$pattern$$" $$http_x_routing_key; }
  map $$upstream $$peer { default "";$peers }
$identity
$blocks
  server {
    listen unix:$socket;
    client_max_body_size 16m;
    client_body_buffer_size 16m;
    location / { js_content lab.replace; }
  }
  server {
    listen $listen;
    http2 on;
    http2_max_concurrent_streams $most;  # each needs a connection to a replica
    keepalive_requests 1000000000;
    keepalive_time 30d;
    keepalive_timeout 30d;
    client_max_body_size 0;
    client_body_timeout 30d;
    large_client_header_buffers 8 64k;
    send_timeout 30d;
    default_type application/grpc;
$server_tls
    location / {
      error_page 502 504 = @dead;
      error_page 418 = @malformed;
      error_page 419 = @unknown;
      error_page 420 = @dead;
$admission
      if ($$key = "") { return 418; }
      if ($$upstream = "") { return 419; }
      if ($$upstream = $no_replica) { return 420; }
      grpc_set_header Via "$via";
$no_picks
      grpc_pass $scheme://$$upstream;
      grpc_connect_timeout 5s;
      grpc_read_timeout 30d;
      grpc_send_timeout 30d;
$upstream_tls
    }
    location @malformed { $invalid "routing key: send exactly one, of the form model.v1" always; return 204; }
    location @unknown { $unavailable "routing key '$$key': no such key" always; return 204; }
    location @dead { $unavailable "routing key '$$key': no healthy replica" always; return 204; }
  }
}
""")
# In a variable, as a certificate whose name has one is read at each handshake.
_IDENTITY = Template("""
  map "" $$identity_link { default "$folder"; }
  js_set $$identity lab.identity;
  map "" $$known { default "$known"; }
  map "" $$two { default "$two"; }
  js_set $$admitted lab.admitted;
""")
_SERVER_TLS = f"""
    ssl_certificate $identity/{CERTIFICATE};
    ssl_certificate_key $identity/{KEY};
    ssl_client_certificate {{folder}}/{AUTHORITIES};
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
    location @denied {{{{ add_header grpc-status 7; add_header grpc-message "for callers only"; return 204; }}}}
"""
_ADMISSION = """
      error_page 421 = @denied;
      if ($admitted = "") { return 421; }
"""
_UPSTREAM_TLS = f"""
      grpc_ssl_certificate $identity/{CERTIFICATE};
      grpc_ssl_certificate_key $identity/{KEY};
      grpc_ssl_trusted_certificate {{folder}}/{AUTHORITIES};
      grpc_ssl_verify on;
      grpc_ssl_name $peer;
      grpc_ssl_server_name on;
      grpc_ssl_protocols TLSv1.3;
"""


class Nginx(Child):
    """Runs NGINX with one worker; see :class:`services.renderer.proxy.Proxy`."""

    graceful = signal.SIGQUIT  # SIGTERM would cut requests off

    def __init__(self) -> None:
        super().__init__()
        self._reloaded_at = 0.0
        self._upstreams: frozenset[Upstream] = frozenset()
        self._in_use: frozenset[Upstream] = frozenset()
        self._authorities = b""

    async def start(self, configuration: Configuration) -> None:
        """Starts it, and configures it."""
        self._write(configuration, _upstreams(configuration))
        folder = str(self.folder)
        self.run(("nginx", "-p", folder, "-c", f"{folder}/{_FILE}", "-e", "stderr"), remedy=_REMEDY)
        await self.listening(self.folder / _SOCKET)
        await self._replace_keys(configuration)

    async def configure(self, configuration: Configuration) -> None:
        """Replaces the routing keys; makes new workers before if there are new replicas or authorities."""
        upstreams = _upstreams(configuration)
        if not upstreams <= self._upstreams or _authorities(configuration) != self._authorities:
            await self._reload(configuration, upstreams)
        await self._replace_keys(configuration)

    async def _reload(self, configuration: Configuration, upstreams: frozenset[Upstream]) -> None:
        """Makes new workers, and waits until the old ones have asked their clients to connect again."""
        await asyncio.sleep(self._reloaded_at + _REST_S - time.monotonic())
        self._write(configuration, upstreams | self._in_use)
        old = self._workers()
        self.send_signal(signal.SIGHUP)
        while not self._reloaded(old):  # noqa: ASYNC110 (it signals nothing)
            await asyncio.sleep(_POLL_INTERVAL_S)
        self._reloaded_at = time.monotonic()

    def _reloaded(self, old: set[int]) -> bool:
        workers = self._workers()
        return bool(workers - old) and all(_is_leaving(each) for each in workers & old)

    def _workers(self) -> set[int]:
        pid = self.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def _write(self, configuration: Configuration, upstreams: frozenset[Upstream]) -> None:
        (self.folder / _FILE).write_text(rendered(configuration, upstreams, self.folder / _SOCKET))
        self._upstreams, self._authorities = upstreams, _authorities(configuration)

    async def _replace_keys(self, configuration: Configuration) -> None:
        its = configuration.upstreams.items()
        names = {key: _name(upstream) if upstream.addresses else _NO_REPLICA for key, upstream in its}
        connector = aiohttp.UnixConnector(str(self.folder / _SOCKET))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://localhost/", json=names) as answer,
        ):
            if not answer.ok:
                raise UnitError(f"nginx: {self.last_line or answer.reason}")
        self._in_use = _upstreams(configuration)


def rendered(configuration: Configuration, upstreams: Collection[Upstream], socket: Path) -> str:
    """NGINX's configuration file, for upstreams that routing keys may have."""
    folder = configuration.identity and configuration.identity.parent / CURRENT
    identity = _IDENTITY.substitute(folder=folder, known=admitted(configuration.node), two=TWO_URIS)
    return _CONFIGURATION.substitute(
        module=_modules() / _MODULE,
        script=_SCRIPT,
        socket=socket,
        user="user root root;" if os.geteuid() == 0 else "",
        pattern=PATTERN,
        no_replica=_NO_REPLICA,
        most=_MOST,
        listen=configuration.listen + (" ssl" if folder else ""),
        scheme="grpcs" if folder else "grpc",
        peers="".join(f" {_name(each)} {each.host_name};" for each in upstreams),
        blocks="\n".join(_block(each, configuration.picks) for each in upstreams),
        identity=identity if folder else "",
        admission=_ADMISSION if folder else "",
        server_tls=_SERVER_TLS.format(folder=folder) if folder else "",
        via=configuration.via,
        no_picks="\n".join(f'      grpc_set_header {name} "";' for name in FORGEABLE),
        upstream_tls=_UPSTREAM_TLS.format(folder=folder) if folder else "",
        invalid="add_header grpc-status 3 always; add_header grpc-message",
        unavailable="add_header grpc-status 14 always; add_header grpc-message",
    )


def _block(upstream: Upstream, picks: str) -> str:
    # Not left out after a failure, by default for 10 s: the control plane says which replicas there are.
    servers = " ".join(f"server {each} max_fails=0;" for each in upstream.addresses)
    return (
        f"  upstream {_name(upstream)} "
        f"{{ {picks} {servers} keepalive {_MOST}; keepalive_requests 1000000000; keepalive_time 30d; }}"
    )


def _name(upstream: Upstream) -> str:
    return f"u{blake2s(repr(upstream).encode(), digest_size=8).hexdigest()}"


def _upstreams(configuration: Configuration) -> frozenset[Upstream]:
    return frozenset(each for each in configuration.upstreams.values() if each.addresses)


def _authorities(configuration: Configuration) -> bytes:
    return (configuration.identity / AUTHORITIES).read_bytes() if configuration.identity else b""


@cache
def _modules() -> Path:
    """The folder of NGINX's modules, as it was built.

    Raises:
        UnitError: it has no module for njs.
    """
    program = path_of("nginx")
    if program is None:
        raise UnitError(f"nginx is not installed: {_REMEDY}")
    built = subprocess.run((program, "-V"), capture_output=True, text=True, check=False).stderr
    found = re.search(r"--modules-path=(\S+)", built)
    if found is None or not (Path(found[1]) / _MODULE).exists():
        raise UnitError(f"nginx has no module {_MODULE}: {_REMEDY}")
    return Path(found[1])


def _is_leaving(worker: int) -> bool:
    try:
        return _LEAVING in Path(f"/proc/{worker}/cmdline").read_bytes()
    except OSError:  # it is gone
        return True


RENDERER = ProxyRenderer(
    name="nginx",
    configures="keys in memory that workers share, by its JavaScript (njs); upstreams in a file",
    proxy=Nginx,
)
