"""Opens channels to one address, or balanced over several.

A unit has its credentials from its environment. The ``lab`` command, a notebook or a test is not a unit and may use
several labs, so its credentials depend on the address: code that opens a lab registers the lab's addresses here.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc
import grpc.aio

from lab.identity import host_name
from lab.transport.call_tracking import without_cycles
from lab.transport.rotating_channel import RotatingChannel
from lab.transport.rpc_metrics import counted
from lab.transport.security import Security
from lab.transport.tracing import traced

MAX_MESSAGE_BYTES = 64 * 1024 * 1024

T = TypeVar("T")
Option = tuple[str, int | str]

_COMMON: tuple[Option, ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # the lab's traffic never leaves the machine
    # Reconnects to a restarted peer within a second; gRPC's default backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
# Despite its name, the timeout of one connection attempt.
_ATTEMPT_MS = "grpc.min_reconnect_backoff_ms"
# A busy machine needs more than the backoff.
OPTIONS: tuple[Option, ...] = (*_COMMON, (_ATTEMPT_MS, 1000))
# A frozen peer keeps its connections open in silence: only pings detect it.
_KEEPALIVE: tuple[Option, ...] = (
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1000),
    # The timeout above has no effect beyond this one, which is 60 s by default.
    ("grpc.http2.ping_timeout_ms", 1000),
    ("grpc.http2.max_pings_without_data", 0),
)
# The same for the data path. Slower, because giving up on a peer fails all requests in flight to it, and a live peer on
# a busy machine may answer late.
DATA_KEEPALIVE: tuple[Option, ...] = (
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
)
# A call over a new channel fails with its first connection attempt, as it does not wait for the next. A TLS handshake
# on a busy machine may take more than a second. Below the deadlines of such calls, so that errors name the reason.
_ONCE: tuple[Option, ...] = (*_COMMON, (_ATTEMPT_MS, 4000))
# Otherwise channels to the same address with the same options share a connection.
_OWN_CONNECTION: Option = ("grpc.use_local_subchannel_pool", 1)
_ROUND_ROBIN: Mapping[str, Any] = {"round_robin": {}}
# A server that stops drops its queued requests, so its clients must leave it before: each watches the health of the
# servers that it balances over, and leaves out those that drain or are not ready yet.
_WATCHED = {"healthCheckConfig": {"serviceName": ""}}
# Replicas that replace others have new addresses; by default gRPC looks a name up every 30 s at most.
_LOOK_UP_AGAIN: Option = ("grpc.dns_min_time_between_resolutions_ms", 1000)


# A cached connection may be dead without notice, if its server restarted or was cut off.
_CACHED_TIMEOUT_S = 1.0
_DEAD = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Entry(NamedTuple):
    """How to connect to an address.

    Attributes:
        security: credentials to present.
        peer: role that the other end must prove; empty for any unit of the lab.
    """

    security: Security
    peer: str = ""


_entries: dict[str, Entry] = {}


def register(entries: dict[str, Entry]) -> None:
    """Makes this process's channels to these addresses use these entries from now on."""
    _entries.update(entries)


def beside(address: str) -> Security:
    """Credentials for a sidecar: those registered for the address, else none on this side of the network.

    A load driver in another pod than the sidecar's reaches it over the network, by this process's own credentials.
    """
    entry = look_up(address)
    if entry is not None:
        return entry.security
    return Security() if _is_on_this_side(address) else Security.of_this_process()


def _is_on_this_side(address: str) -> bool:
    host = address.rpartition(":")[0]
    return address.startswith("unix:") or (not _is_name(address) and ip_address(host).is_loopback)


def look_up(address: str) -> Entry | None:
    """The entry of an address; None if it has none or its lab is gone, whose port another lab may have now."""
    entry = _entries.get(address)
    if entry is not None and entry.security.is_mtls and not Path(entry.security.folder).exists():
        del _entries[address]
        return None
    return entry


def _target(
    addresses: Sequence[str], *, carries_requests: bool, watches_health: bool, balancing: Mapping[str, Any]
) -> tuple[str, tuple[Option, ...]]:
    config = {"loadBalancingConfig": [dict(balancing)], **(_WATCHED if watches_health else {})}
    balanced: Option = ("grpc.service_config", json.dumps(config))
    if len(addresses) > 1:
        return "ipv4:" + ",".join(addresses), (*OPTIONS, balanced)
    if carries_requests and _is_name(addresses[0]):
        return f"dns:///{addresses[0]}", (*OPTIONS, balanced, _LOOK_UP_AGAIN)
    return addresses[0], OPTIONS


def _is_name(address: str) -> bool:
    """Whether the host is a name, behind which there may be several replicas."""
    try:
        ip_address(address.rsplit(":", 1)[0])
    except ValueError:
        return not address.startswith("unix:")
    return False


def any_of(addresses: str) -> str:
    """The gRPC target of one ``host:port``, or of the first reachable one of several with commas.

    Raises:
        OSError: several are given, and a name among them is unknown. gRPC looks up one name only.
    """
    if "," not in addresses:
        return addresses
    return "ipv4:" + ",".join(_looked_up(address) for address in addresses.split(","))


def _looked_up(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"{socket.gethostbyname(host)}:{port}"


def open_channel(
    *addresses: str,
    security: Security | None = None,
    peer: str = "",
    keepalive: bool = False,
    carries_requests: bool = False,
    watches_health: bool = True,
    own_connection: bool = False,
    balancing: Mapping[str, Any] | None = None,
) -> grpc.aio.Channel:
    """An asyncio channel.

    Args:
        addresses: one ``host:port``, or several ``ip:port`` over which gRPC balances in turn; it leaves out those that
            cannot be reached. Requests to one name are balanced over all addresses of that name.
        security: credentials; by default those registered for the address, else this process's own.
        peer: identity that the other end must prove, with mTLS: a role, or ``role/name``; any unit by default.
        keepalive: detects a frozen peer within about 2 s while a call is open; for channels that carry long streams.
        carries_requests: detects a frozen peer within about 5 s while a call is open; for the data path.
        watches_health: leaves out servers whose health service does not report SERVING. Not for proxies, which have
            none: a client would wait for ever for one that refuses the question.
        own_connection: shares none with other channels of this process, for processes that act as several callers.
        balancing: how gRPC balances, in place of in turn: an entry of ``loadBalancingConfig`` in its service config.
    """
    target, options = _target(
        addresses,
        carries_requests=carries_requests,
        watches_health=watches_health,
        balancing=balancing or _ROUND_ROBIN,
    )
    security, peer = resolve_peer(addresses[0], security, peer)
    if keepalive:
        options += _KEEPALIVE
    elif carries_requests:
        options += DATA_KEEPALIVE
    if own_connection:
        options = (*options, _OWN_CONNECTION)
    if not security.is_mtls:
        return traced(counted(without_cycles(grpc.aio.insecure_channel(target, options=options))), target)
    options = (*options, _expected(peer))

    def open_now() -> grpc.aio.Channel:
        return without_cycles(grpc.aio.secure_channel(target, security.channel_credentials(), options=options))

    return traced(counted(RotatingChannel(open_now, security.version)), target)


def open_blocking_channel(address: str, security: Security | None = None, peer: str = "") -> grpc.Channel:
    """A channel for code without an event loop: the command line, notebooks, tests. Its certificate is not rotated.

    It has its own connection, so the backoff of other channels does not delay it. A connection attempt may take
    4 s; if no process listens, it fails at once.

    Args:
        address: one ``host:port``, or several ``ip:port`` with commas: calls go to the first that can be reached.
        security: as for :func:`open_channel`.
        peer: likewise.
    """
    target, options = any_of(address), (*_ONCE, _OWN_CONNECTION)
    security, peer = resolve_peer(address.split(",", 1)[0], security, peer)
    if not security.is_mtls:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, security.channel_credentials(), options=(*options, _expected(peer)))


def resolve_peer(address: str, security: Security | None, peer: str) -> tuple[Security, str]:
    """Credentials for an address, and the identity to expect there; see :func:`open_channel`."""
    known = look_up(address)
    if known is None:
        return security or Security.of_this_process(), peer
    return security or known.security, peer or known.peer


def _expected(peer: str) -> Option:
    return ("grpc.ssl_target_name_override", host_name(peer))


class ChannelCache:
    """One blocking channel an address, kept while calls over it succeed. Threads may share it.

    A TLS handshake costs five times what a short call does.
    """

    def __init__(self) -> None:
        self._open: dict[str, grpc.Channel] = {}

    def clear(self) -> None:
        """Drops all channels; each closes as soon as no call uses it."""
        self._open.clear()

    def call(self, address: str, rpc: Callable[[grpc.Channel, float], T], *, timeout_s: float) -> T:
        """Calls over the cached channel, and once more over a new one if the cached one proves dead.

        Args:
            address: ``host:port``.
            rpc: makes the call, given a channel and a timeout in seconds; may be run twice.
            timeout_s: for the call over a new channel, seconds.

        Raises:
            grpc.RpcError: the call failed.
        """
        cached = self._open.get(address)
        if cached is not None:
            try:
                return rpc(cached, min(_CACHED_TIMEOUT_S, timeout_s))
            except grpc.RpcError as error:
                # Not closed here: another thread may be using it. It is closed with its last reference.
                self._open.pop(address, None)
                if error.code() not in _DEAD:
                    raise
        channel = open_blocking_channel(address)
        answer = rpc(channel, timeout_s)
        self._open[address] = channel
        return answer
