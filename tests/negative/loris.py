"""Whoever begins to speak, and goes on a byte at a time so as never to be done."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import h2.config
import h2.connection
import h2.events

from tests.negative.wire import Answer, connected, rpc_headers

# The begin of a TLS handshake, of a message as long as may be.
_HELLO = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"
_EVERY_S = 0.5
PATIENCE_S = 30.0


def _headers(connection: h2.connection.H2Connection) -> bytes:
    """HTTP/2 up to the midst of a request's headers."""
    connection.initiate_connection()
    connection.send_headers(1, [*rpc_headers(), (b"x-slow", b"z" * 4_000)])
    return connection.data_to_send()


def dawdle(address: str, *, in_plaintext: bool) -> Answer:
    """Until the other side has had enough: how that ended, and after how many seconds."""
    protocol = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
    said = _headers(protocol) if in_plaintext else _HELLO + bytes(16_000)
    at_once = len(said) - 1_000 if in_plaintext else len(_HELLO)
    began = time.monotonic()
    with connected(address) as connection:
        connection.settimeout(_EVERY_S)
        connection.sendall(said[:at_once])
        for byte in said[at_once:]:
            if time.monotonic() - began > PATIENCE_S:
                return Answer("OPEN", f"after {PATIENCE_S:g} s")
            if ended := _goes_on(connection, bytes([byte]), protocol):
                return Answer(ended, "given up" if time.monotonic() - began > 1.0 else "at once")
    return Answer("OPEN", "has said it all")


def _goes_on(connection: socket.socket, byte: bytes, protocol: h2.connection.H2Connection) -> str:
    """Says one more, and looks whether the other side has had enough."""
    try:
        connection.sendall(byte)
        data = connection.recv(1 << 16)
    except TimeoutError:
        return ""
    except OSError:
        return "CLOSED"
    if not data:
        return "CLOSED"
    events = protocol.receive_data(data) if data[:1] != b"\x15" else []  # an alert of TLS
    return "RESET" if any(isinstance(event, h2.events.StreamReset) for event in events) else ""


class Lorises:
    """Several, who begin together and are asked for in the end."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._crew = ThreadPoolExecutor(len(addresses))
        self._ends: dict[str, Future[Answer]] = {
            unit: self._crew.submit(dawdle, address, in_plaintext=unit.endswith("sidecar"))
            for unit, address in addresses.items()
        }

    def end_of(self, unit: str) -> Answer:
        """How it ended with one."""
        return self._ends[unit].result(PATIENCE_S + 10)
