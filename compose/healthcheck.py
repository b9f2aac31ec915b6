#!/opt/lab/bin/python -IS
"""Exits with status 0 if the server on a port of this container is healthy.

``healthcheck grpc 9000`` calls the server's gRPC health service; ``healthcheck http 9003 /ready`` expects a 200;
``healthcheck open 9000`` only connects, for proxies without a health service. With ``HEALTHCHECK_ANY`` in the
environment any answer will do: whether the server lives, be it not ready. It uses only light parts of the standard
library: importing grpc would take six times the processor time, thirty times.
"""

import os
import socket
import sys

TIMEOUT_S = 2.0
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _HEADERS, _DATA = 4, 1, 0
_END_STREAM, _END_HEADERS = 1, 4
# Five bytes of gRPC framing, uncompressed: an empty HealthCheckRequest, and a HealthCheckResponse of SERVING.
_REQUEST = b"\0\0\0\0\0"
_ANSWER = b"\0\0\0\0\2\x08"
_SERVING = _ANSWER + b"\1"


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _text(value: bytes) -> bytes:
    return bytes((len(value),)) + value


def _grpc_request() -> bytes:
    headers = b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http, from HPACK's static table
            b"\x04" + _text(b"/grpc.health.v1.Health/Check"),  # :path
            b"\x01" + _text(b"localhost"),  # :authority
            b"\x0f\x10" + _text(b"application/grpc"),  # content-type
            b"\x00" + _text(b"te") + _text(b"trailers"),
        )
    )
    return (
        _HTTP2_PREFACE
        + _frame(_SETTINGS, 0, 0)
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, _REQUEST)
    )


def _secured(connection: socket.socket) -> socket.socket:
    """The same with TLS, by this container's own certificate."""
    import ssl  # noqa: PLC0415 (only where connections are secured)

    present = os.path.realpath(f"{os.environ['LAB_IDENTITY']}/current")
    context = ssl.create_default_context(cafile=f"{present}/ca.pem")
    context.load_cert_chain(f"{present}/cert.pem", f"{present}/key.pem")
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connection, server_hostname="lab.internal")  # every unit of the lab has this name


def _answer_contains(port: int, request: bytes, wanted: bytes, *, secured: bool = False) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as plain:
        connection = _secured(plain) if secured else plain
        connection.sendall(request)
        answer = b""
        while wanted not in answer:
            chunk = connection.recv(65536)
            if not chunk:
                return False
            answer += chunk
    return True


def main(protocol: str, port: str, path: str = "/") -> bool:
    """Asks once."""
    any_answer = "HEALTHCHECK_ANY" in os.environ
    if protocol == "open":
        socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT_S).close()
        return True
    if protocol == "grpc":
        secured = os.environ.get("LAB_SECURITY") == "mtls"
        return _answer_contains(int(port), _grpc_request(), _ANSWER if any_answer else _SERVING, secured=secured)
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return _answer_contains(int(port), request.encode(), b"HTTP/1." if any_answer else b" 200 OK\r\n")


if __name__ == "__main__":
    try:
        well = main(*sys.argv[1:])
    except OSError as error:
        sys.exit(f"{' '.join(sys.argv[1:])}: {error}")
    sys.exit(0 if well else f"{' '.join(sys.argv[1:])}: not serving")
