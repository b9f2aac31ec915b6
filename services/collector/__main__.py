"""``python -m services.collector``: receives the spans of a lab's units by OTLP, and keeps the latest."""

from __future__ import annotations

import argparse
import asyncio
import logging
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp

from lab.client.traces import FIND, SERVICE
from lab.errors import UnitError
from lab.transport import drain, listen, new_server, run_service, serve_metrics
from lab.transport.authorization import roles_in
from services.collector.spans import read_spans
from services.collector.store import SpanStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_GRACE_S = 2.0
MOST_BYTES, MOST_SPANS = 512 * 1024, 4_096
"""Of an export. A unit sends 256 spans at once, of half a kilobyte each, and an Envoy five."""
_READ_AT_ONCE, _READ_WITHIN_S = 4, 2.0
_OTLP = otlp.DESCRIPTOR.services_by_name["TraceService"].full_name

_log = logging.getLogger("services.collector")


class Collector:
    """Stores what units export, and finds it again."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store
        self._reading, self._is_full = asyncio.Semaphore(_READ_AT_ONCE), False

    async def export(self, requests: AsyncIterator[bytes], context: Any) -> otlp.ExportTraceServiceResponse:
        """See OTLP. Others wait unread: parsed, a message takes up to a hundred times its size."""
        async with self._reading:
            try:
                async with asyncio.timeout(_READ_WITHIN_S):
                    message = await anext(requests, b"")
                    ends = await anext(requests, None) is None  # unless read to its end, it keeps the message
                request = otlp.ExportTraceServiceRequest.FromString(message)
            except TimeoutError:
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"send an export within {_READ_WITHIN_S:g} s")
            except DecodeError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the bytes are not an export of OTLP")
            if not ends:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "send one export a request")
            spans = list(islice(read_spans(request), MOST_SPANS + 1))
            if len(spans) > MOST_SPANS:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"send {MOST_SPANS} spans at once at most")
            try:
                self._store.add(spans)
            except UnitError as error:
                if not self._is_full:
                    _log.warning("%s; spans are lost until there is space", error)
                self._is_full = True
                await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            if self._is_full:
                _log.info("spans are kept again")
            self._is_full = False
        return otlp.ExportTraceServiceResponse()

    async def find(self, name: bytes, context: Any) -> bytes:
        """The spans of a request id or trace id, a JSON array."""
        del context
        return b"[" + b",".join(self._store.find(name.decode(errors="replace"))) + b"]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.collector", description="Keeps the latest spans.")
    parser.add_argument("--listen", required=True, help="ip:port to serve on")
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    parser.add_argument("--spans", required=True, type=Path, help="file of the spans")
    parser.add_argument(
        "--clients",
        type=roles_in,
        default=(),
        metavar="ROLE,…",
        help="roles that may send spans, with mTLS",
    )
    return parser.parse_args()


async def _serve(stop: asyncio.Event, arguments: argparse.Namespace) -> None:
    serve_metrics(arguments.metrics)
    store = SpanStore(arguments.spans)
    collector = Collector(store)
    # On the wire, a stream of one message is the same as a unary request, and is read when there is room for it.
    export: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(
        collector.export, response_serializer=otlp.ExportTraceServiceResponse.SerializeToString
    )
    find: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(collector.find)
    server, healthy = new_server(
        handlers=[
            grpc.method_handlers_generic_handler(_OTLP, {"Export": export}),
            grpc.method_handlers_generic_handler(SERVICE, {FIND.rpartition("/")[2]: find}),
        ],
        admits={_OTLP: arguments.clients, SERVICE: ()},
        max_message_bytes=MOST_BYTES,
    )
    port = listen(server, arguments.listen)
    await server.start()
    _log.info("the collector serves on port %d", port)
    await stop.wait()
    _log.info("the collector stops")
    # Units that end later have nowhere else to send their last spans.
    await drain(server, healthy, grace_s=_GRACE_S, linger_s=0)
    store.close()


if __name__ == "__main__":
    arguments = _arguments()
    run_service(lambda stop: _serve(stop, arguments))
