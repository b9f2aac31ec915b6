"""The address under test: who may be one, how to connect, and whether it speaks HTTP/2."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from lab.errors import InputError, UnitError
from lab.plugins.conform.http2 import Connection
from lab.reading import read_bytes

CONTAINERS = ipaddress.ip_network("198.18.0.0/15")
"""The lab's container networks: see :mod:`lab.runtime.compose.subnets`."""
_WITHIN_S = 5.0
_UNLIMITED: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # each channel has its own connection
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Target:
    """A proxy's address, and what is needed to connect.

    Attributes:
        host: an IP address of this machine, or of one of the lab's containers.
        port: its TCP port.
        tls: whether to connect by TLS.
        ca: certificates of the authorities to trust, PEM; those of the system if None.
        cert: certificate to present, PEM, with its chain; None for none.
        key: its key, PEM.
        server_name: name that the proxy's certificate must have; empty for the host.
    """

    host: str
    port: int
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""

    @property
    def address(self) -> str:
        """``ip:port``, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(
        cls, address: str, *, ca: Path | None = None, cert: Path | None = None, key: Path | None = None, name: str = ""
    ) -> Target:
        """Reads ``host:port``; TLS if there are authorities or a certificate.

        Raises:
            InputError: it is not such an address, or is on another machine.
        """
        if (cert is None) != (key is None):
            raise InputError("--cert and --key go together: give both, or neither")
        tls = ca is not None or cert is not None
        for option, file in (("--ca", ca), ("--cert", cert), ("--key", key)):
            if file is not None and b"-----BEGIN " not in read_bytes(file):
                raise InputError(f"{option}: {file} is not a PEM file")
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) <= _LAST_PORT:
            raise InputError(f"ADDRESS: {address!r} is not of the form host:port; write e.g. 127.0.0.1:8443")
        host = host.strip("[]")
        return cls(_of_this_machine(host), int(port), tls, ca, cert, key, name or ("" if _is_ip(host) else host))

    def channel(self) -> grpc.aio.Channel:
        """A channel with its own connection."""
        if not self.tls:
            return grpc.aio.insecure_channel(self.address, options=_UNLIMITED)
        files = (read_bytes(each) if each else None for each in (self.ca, self.key, self.cert))
        named = (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()
        return grpc.aio.secure_channel(
            self.address, grpc.ssl_channel_credentials(*files), options=(*_UNLIMITED, *named)
        )

    async def connect(self) -> Connection:
        """Opens an HTTP/2 connection, and waits for the other side's settings.

        Raises:
            UnitError: nobody listens, the TLS handshake fails, or it does not speak HTTP/2 within 5 s; says which.
        """
        context = self._context()
        try:
            async with asyncio.timeout(_WITHIN_S):
                reader, writer = await asyncio.open_connection(
                    self.host,
                    self.port,
                    ssl=context,
                    server_hostname=(self.server_name or self.host) if context else None,
                )
                try:
                    return await Connection.begun(reader, writer)
                except BaseException:
                    writer.close()
                    raise
        except TimeoutError:
            raise UnitError(
                f"{self.address}: accepts connections, but sends no HTTP/2 settings within {_WITHIN_S:g} s: "
                "is it a gRPC port, and is the proxy stuck?"
            ) from None
        except (ssl.SSLError, OSError, EOFError) as error:
            raise UnitError(f"{self.address}: {self._why(error)}") from None

    def _context(self) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except ssl.SSLError as error:
            raise InputError(f"--ca, --cert, --key: not certificates and their key: {error}") from None
        context.set_alpn_protocols(["h2"])
        return context

    def _why(self, error: ssl.SSLError | OSError | EOFError) -> str:
        """Why no connection came about, and what to do."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({error.verify_message}): see --ca and --server-name"
        if isinstance(error, ssl.SSLError):
            if error.reason in {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}:
                return "does not speak TLS: leave --ca, --cert and --key out"
            return f"TLS fails ({error.reason or error}): does it ask for a certificate? see --cert and --key"
        if isinstance(error, ConnectionRefusedError):
            return "nobody listens: start the proxy first, or name a control that does"
        if isinstance(error, EOFError | ConnectionResetError):
            wrong = "does it ask for a certificate (--cert, --key)?" if self.tls else "does it speak TLS (--ca)?"
            return f"closes the connection before it sends HTTP/2 settings: {wrong}"
        return f"cannot connect: {error.strerror or error}"


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _of_this_machine(host: str) -> str:
    """The IP address of a host.

    Raises:
        InputError: unknown, or neither this machine's loopback nor in a network of the lab's containers.
    """
    try:
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise InputError(f"ADDRESS: {host!r}: {error.strerror}") from None
    return _first_allowed(host, found)


def _first_allowed(host: str, found: Sequence[str]) -> str:
    addresses = [ipaddress.ip_address(each) for each in found]
    for each in addresses:
        if not each.is_loopback and each not in CONTAINERS:
            raise InputError(
                f"ADDRESS: {host!r} is {each}, which is neither this machine's loopback nor in a container network of "
                f"the lab ({CONTAINERS}): the checks flood and kill, so no other machine is tried"
            )
    return str(min(addresses, key=lambda each: each.version))
