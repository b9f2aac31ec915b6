"""Client side: channels to one address, or balanced over several."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from lab.identity import host_name
from lab.transport import address_registry
from lab.transport.rotating_channel import RotatingChannel
from lab.transport.security import Security

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_MESSAGE_BYTES = 64 * 1024 * 1024

Option = tuple[str, int | str]

_COMMON: tuple[Option, ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # the lab's traffic never leaves the machine
    # A restarted peer is found again within a second, not after gRPC's default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
# Despite its name the time that one attempt to connect may take.
_ATTEMPT_MS = "grpc.min_reconnect_backoff_ms"
# A busy machine needs more than a backoff.
OPTIONS: tuple[Option, ...] = (*_COMMON, (_ATTEMPT_MS, 1000))
# A peer that is frozen keeps its connections open and says nothing: only a ping finds out.
_KEEPALIVE: tuple[Option, ...] = (
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1000),
    # Without this one, of 60 s by default, the timeout above is of no effect.
    ("grpc.http2.ping_timeout_ms", 1000),
    ("grpc.http2.max_pings_without_data", 0),
)
# The same for requests and their answers. Not as soon, as giving up on a peer fails whatever is under way to it, and a
# busy machine may keep a live one waiting.
DATA_KEEPALIVE: tuple[Option, ...] = (
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
)
# Whoever asks once has one attempt: where it fails, so does the call, as it does not wait for the next. A TLS handshake
# on a busy machine takes more than a second at times. Less than such a call's deadline, so that the reason is told.
_ONCE: tuple[Option, ...] = (*_COMMON, (_ATTEMPT_MS, 4000))
# Channels to the same address share a connection otherwise, if their options are the same.
_OWN_CONNECTION: Option = ("grpc.use_local_subchannel_pool", 1)
# A server that stops drops the requests that wait to be taken up, so its clients must leave it before: each watches the
# health of every server that it balances over, and leaves out those that drain or are not ready yet.
_BALANCED: Option = (
    "grpc.service_config",
    json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}),
)


def _target(addresses: Sequence[str]) -> tuple[str, tuple[Option, ...]]:
    if len(addresses) == 1:
        return addresses[0], OPTIONS
    return "ipv4:" + ",".join(addresses), (*OPTIONS, _BALANCED)


def any_of(addresses: str) -> str:
    """A target for one ``host:port``, or for the first that can be reached of several, with commas between."""
    return f"ipv4:{addresses}" if "," in addresses else addresses


def open_channel(
    *addresses: str,
    security: Security | None = None,
    peer: str = "",
    keepalive: bool = False,
    carries_requests: bool = False,
    own_connection: bool = False,
) -> grpc.aio.Channel:
    """An asyncio channel.

    Args:
        addresses: one ``host:port``, or several ``ip:port`` over which gRPC balances calls in turn; it leaves out
            those that cannot be reached or say by their health service that they do not serve.
        security: credentials; by default what this process knows of the address, else its own.
        peer: who must be there, if that can be proved: a role, or ``role/name``; anybody of the lab by default.
        keepalive: notice a frozen peer within about 2 s while a call is open; for channels that carry long streams.
        carries_requests: notice a frozen peer within about 5 s while a call is open; for the data path.
        own_connection: share none with other channels of this process; for one that plays several callers.
    """
    target, options = _target(addresses)
    security, peer = who_is_there(addresses[0], security, peer)
    if keepalive:
        options += _KEEPALIVE
    elif carries_requests:
        options += DATA_KEEPALIVE
    if own_connection:
        options = (*options, _OWN_CONNECTION)
    if not security.is_mtls:
        return grpc.aio.insecure_channel(target, options=options)
    options = (*options, _expecting(peer))

    def open_now() -> grpc.aio.Channel:
        return grpc.aio.secure_channel(target, _credentials(security), options=options)

    return RotatingChannel(open_now, security.version)


def open_blocking_channel(address: str, security: Security | None = None, peer: str = "") -> grpc.Channel:
    """A channel for code without an event loop: the command line, notebooks, tests. It keeps its certificate.

    It has a connection of its own, and tries to get one at once, whatever other channels have met with before; each
    attempt may take 4 s. Where nobody listens, it fails at once.

    Args:
        address: one ``host:port``, or several ``ip:port`` with commas between: the first that can be reached is spoken
            to, for as long as it can.
        security: as for :func:`open_channel`.
        peer: likewise.
    """
    target, options = any_of(address), (*_ONCE, _OWN_CONNECTION)
    security, peer = who_is_there(address.split(",", 1)[0], security, peer)
    if not security.is_mtls:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, _credentials(security), options=(*options, _expecting(peer)))


def who_is_there(address: str, security: Security | None, peer: str) -> tuple[Security, str]:
    """Credentials for an address, and who must be there; see :func:`open_channel`."""
    known = address_registry.look_up(address)
    if known is None:
        return security or Security.of_this_process(), peer
    return security or known.security, peer or known.peer


def _credentials(security: Security) -> grpc.ChannelCredentials:
    credentials = security.channel_credentials()
    assert credentials is not None  # noqa: S101 (for the type checker: there are, with mTLS)
    return credentials


def _expecting(peer: str) -> Option:
    return ("grpc.ssl_target_name_override", host_name(peer))
