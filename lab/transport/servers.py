"""Server side: gRPC servers with the lab's limits, health and reflection; the main function of a service."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from lab.errors import LabError, UnitError
from lab.transport import logs, tracing
from lab.transport.authorization import MAX_HEADER_BYTES, guard_of
from lab.transport.channels import MAX_MESSAGE_BYTES
from lab.transport.memory_guard import MemoryGuard
from lab.transport.rpc_metrics import counting
from lab.transport.security import Security

if TYPE_CHECKING:
    from lab.transport.rpc_logs import Audited

MAX_STREAMS = 1024

_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Limits for headers, for streams on one connection, and for the time of a handshake. gRPC's defaults are looser, or
    # unlimited.
    ("grpc.max_metadata_size", MAX_HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # The limits above hold once a client has acknowledged them; by default it has a minute.
    ("grpc.http2.settings_timeout", 5_000),
    ("grpc.max_allowed_incoming_connections", 1_024),
    # What has been read is decoded, also of a connection that the memory guard cuts: by default, up to 4 MiB.
    ("grpc.experimental.tcp_max_read_chunk_size", 128 * 1024),
    # A message that grows when it is inflated is refused unread.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # Two processes on one port would silently share its traffic; the second one is to fail.
    ("grpc.so_reuseport", 0),
    # Peers ping to detect a frozen server; by default gRPC counts that as abuse and closes the connection.
    ("grpc.http2.max_ping_strikes", 0),
    # Above its default of 1,000 queued requests gRPC answers CANCELLED, which means something else.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)

# A silent peer may still act on the last update, so a publish stops and names it; but not for the quarter of an hour
# until TCP would give up.
_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
)

# Of a stream that nobody reads yet, gRPC holds 64 KB; by default it lets that grow with a fast client, to megabytes.
_SMALL = (("grpc.http2.bdp_probe", 0), ("grpc.max_concurrent_streams", 64))

# A connection keeps the identities that it began with, and must not outlive them: after a quarter of a certificate's
# lifetime clients are asked to reconnect, and calls that have not ended after another quarter, such as endless streams,
# are cancelled. Not on servers where such streams mean that a node is alive: cancelling them would take the node out.
_OF_A_LIFETIME = 0.25
_LONGEST_S = (2**31 - 1) / 1_000  # gRPC takes an age as 32 bits of ms, and an older one not at all


def new_server(
    *,
    handlers: Sequence[grpc.GenericRpcHandler] = (),
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    admits: Mapping[str, Collection[str]] | None = None,
    audit: Audited | None = None,
    security: Security | None = None,
    keepalive: bool = False,
    max_connection_age_s: float = 0.0,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """A server that serves health from the start; it listens once :func:`listen` was called.

    Args:
        handlers: of its APIs, where they are not added later.
        interceptors: see gRPC.
        admits: with mTLS, full name of a service → roles that may call it; see
            :class:`lab.transport.authorization.Guard`.
        audit: records state-changing RPCs and refusals.
        security: credentials; this process's own by default.
        keepalive: gives up on a frozen or disconnected peer after half a minute; for servers of long streams.
        max_connection_age_s: age at which clients are asked to reconnect, once their calls in flight are done, seconds
            (10 % jitter); 0 for never.
        max_message_bytes: largest message that it receives; a larger one is refused unread. If it is less than usual,
            a connection holds less of what nobody reads yet, too.

    Returns:
        The server, and its health service: whole server as ``""``, SERVING from the start.
    """
    options = (*_OPTIONS, ("grpc.max_receive_message_length", max_message_bytes), *(_KEEPALIVE if keepalive else ()))
    if max_message_bytes < MAX_MESSAGE_BYTES:
        options = (*options, *_SMALL)
    security = security or Security.of_this_process()
    if audit is not None:
        interceptors = (audit, *interceptors)
    guard = guard_of(admits or {}, audit=audit, security=security)
    interceptors = (*counting(), guard, *tracing.server_interceptors(), *interceptors)
    if security.is_mtls and not keepalive:
        part_s = min(security.lifetime_s() * _OF_A_LIFETIME, _LONGEST_S)
        max_connection_age_s = min(max_connection_age_s or math.inf, part_s)
        options = (*options, ("grpc.max_connection_age_grace_ms", round(part_s * 1_000)))
    if max_connection_age_s:
        options = (*options, ("grpc.max_connection_age_ms", round(max_connection_age_s * 1_000)))
    server = grpc.aio.server(interceptors=list(interceptors), options=options)
    if handlers:
        server.add_generic_rpc_handlers(tuple(handlers))
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    return server, healthy


def enable_reflection(server: grpc.aio.Server, service_names: Sequence[str]) -> None:
    """Enables server reflection, for clients such as grpcurl.

    The import takes 3 MB, so only servers that outside clients call enable it.
    """
    from grpc_reflection.v1alpha import reflection  # noqa: PLC0415 (see above)

    names = (*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)


def listen(server: grpc.aio.Server, address: str, security: Security | None = None) -> int:
    """Binds ``host:port`` and returns the port.

    Raises:
        UnitError: the address cannot be bound.
    """
    credentials = (security or Security.of_this_process()).server_credentials()
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise UnitError(f"cannot listen on {address}: is the port taken?") from error


async def is_serving(healthy: health.aio.HealthServicer) -> bool:
    """Whether the health service reports SERVING for the whole server."""
    answer = await healthy.Check(health_pb2.HealthCheckRequest(), None)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def drain(
    server: grpc.aio.Server, healthy: health.aio.HealthServicer, *, grace_s: float, linger_s: float = 0.25
) -> None:
    """Stops a server without failing requests: it reports NOT_SERVING, then lets requests in flight finish.

    Args:
        server: made by :func:`new_server`, as is ``healthy``.
        healthy: its health service.
        grace_s: time after which requests are cancelled, seconds.
        linger_s: time for clients to leave, seconds; a server that stops drops its queued requests.
    """
    await healthy.enter_graceful_shutdown()
    await asyncio.sleep(linger_s)
    await server.stop(grace_s)


def run_service(main: Callable[[asyncio.Event], Coroutine[object, object, None]]) -> None:
    """Runs ``main(stop)`` on uvloop; ``stop`` is set by SIGTERM and SIGINT.

    Exits the process with status 1 and one line on a :class:`LabError`.
    """
    logs.begin()

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        # Imported modules stay: the collector need not traverse them.
        MemoryGuard(loop).start()
        tracing.start()
        gc.collect()
        gc.freeze()
        await main(stop)

    try:
        uvloop.run(until_stopped())
    except LabError as error:
        sys.exit(f"{error}")
