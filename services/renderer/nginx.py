"""NGINX: a map from routing keys to upstreams in its configuration file, which it reads again on SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from lab.routing.keys import PATTERN
from services.renderer.child import Child

if TYPE_CHECKING:
    from services.renderer.proxy import Configuration

_FILE = "nginx.conf"
_REMEDY = "`make proxies`, or install nginx 1.25.1 or later"
_POLL_INTERVAL_S = 0.005
# Between two reloads: all clients connect again after each, and a worker that ends cuts off their handshakes.
_REST_S = 0.3
_LEAVING = b"shutting down"  # in the title of a worker that begins no request any more

# NGINX compares the keys of a map regardless of case, so the strict form is checked before. Several values of a header
# come joined by commas, which have not that form.
_CONFIGURATION = Template(r"""
daemon off;
worker_processes 1;  # as each Envoy and gateway has one thread
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
  map $$http_x_routing_key $$key { default ""; "~^$pattern$$" $$http_x_routing_key; }
  map $$key $$upstream { default "";$upstreams }
  map $$key $$peer { default "";$peers }
$blocks
  server {
    listen $listen;
    http2 on;
    http2_max_concurrent_streams 4096;
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
      if ($$key = "") { return 418; }
      if ($$upstream = "") { return 419; }
      if ($$upstream = none) { return 420; }
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
_SERVER_TLS = """
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    ssl_client_certificate {folder}/ca.pem;
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
"""
_UPSTREAM_TLS = """
      grpc_ssl_certificate {folder}/cert.pem;
      grpc_ssl_certificate_key {folder}/key.pem;
      grpc_ssl_trusted_certificate {folder}/ca.pem;
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

    async def start(self, configuration: Configuration) -> None:
        """Starts it."""
        self._write(configuration)
        folder = str(self.folder)
        self.run(("nginx", "-p", folder, "-c", f"{folder}/{_FILE}", "-e", "stderr"), remedy=_REMEDY)

    async def configure(self, configuration: Configuration) -> None:
        """Makes new workers, and waits until the old ones have asked their clients to connect again."""
        await asyncio.sleep(self._reloaded_at + _REST_S - time.monotonic())
        self._write(configuration)
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

    def _write(self, configuration: Configuration) -> None:
        (self.folder / _FILE).write_text(rendered(configuration))


def rendered(configuration: Configuration) -> str:
    """NGINX's configuration file."""
    names, folder = configuration.names(), configuration.identity
    keys = sorted(configuration.upstreams.items())
    return _CONFIGURATION.substitute(
        user="user root root;" if os.geteuid() == 0 else "",
        pattern=PATTERN,
        listen=configuration.listen + (" ssl" if folder else ""),
        scheme="grpcs" if folder else "grpc",
        upstreams="".join(f' "{key}" {names.get(its, "none")};' for key, its in keys),
        peers="".join(f' "{key}" {its.host_name};' for key, its in keys),
        blocks="\n".join(_block(name, its.addresses) for its, name in names.items()),
        server_tls=_SERVER_TLS.format(folder=folder) if folder else "",
        upstream_tls=_UPSTREAM_TLS.format(folder=folder) if folder else "",
        invalid="add_header grpc-status 3 always; add_header grpc-message",
        unavailable="add_header grpc-status 14 always; add_header grpc-message",
    )


def _block(name: str, addresses: tuple[str, ...]) -> str:
    # Not left out after a failure, by default for 10 s: the control plane says which replicas there are.
    servers = " ".join(f"server {each} max_fails=0;" for each in addresses)
    return f"  upstream {name} {{ {servers} keepalive 256; keepalive_requests 1000000000; keepalive_time 30d; }}"


def _is_leaving(worker: int) -> bool:
    try:
        return _LEAVING in Path(f"/proc/{worker}/cmdline").read_bytes()
    except OSError:  # it is gone
        return True
