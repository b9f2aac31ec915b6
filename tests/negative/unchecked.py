"""An HTTP/2 server that checks no header: what arrives where the codec of the lab's servers does not refuse it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import h2.config
import h2.connection
import h2.events

from tests.negative.wire import RANK, Answer, Header, Wire, framed, rpc_headers


def what_arrives(*headers: Header) -> Answer:
    """How such a server answers a request with these headers, to which it says those that no request needs."""
    with _server() as address, Wire(address) as wire:
        answer = wire.ask(*headers)
        return Answer(answer.status, f"arrived as {answer.body.decode()}")


@contextmanager
def _server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_serve_one, args=(listener,))
        serving.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            serving.join()


def _serve_one(listener: socket.socket) -> None:
    usual = {name for name, _ in rpc_headers(RANK)}
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(
            client_side=False, header_encoding=None, validate_inbound_headers=False, normalize_inbound_headers=False
        )
    )
    with listener.accept()[0] as client:
        connection.initiate_connection()
        client.sendall(connection.data_to_send())
        while data := client.recv(1 << 16):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    said = b"".join(b"%a" % ((name, value),) for name, value in event.headers if name not in usual)
                    connection.send_headers(event.stream_id, [(":status", "200")])
                    connection.send_data(event.stream_id, framed(said))
                    connection.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
            client.sendall(connection.data_to_send())
