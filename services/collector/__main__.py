"""``python -m services.collector``: receives the spans of a lab's units by OTLP, and keeps the latest."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp

from lab.client.traces import FIND, SERVICE
from lab.transport import drain, listen, new_server, run_service, serve_metrics
from lab.transport.authorization import roles_in
from services.collector.spans import read_spans
from services.collector.store import SpanStore

_GRACE_S = 2.0
_OTLP = otlp.DESCRIPTOR.services_by_name["TraceService"].full_name

_log = logging.getLogger("services.collector")


class Collector:
    """Stores what units export, and finds it again."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store

    async def export(self, request: otlp.ExportTraceServiceRequest, context: Any) -> otlp.ExportTraceServiceResponse:
        """See OTLP."""
        del context
        self._store.add(read_spans(request))
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
    export: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
        collector.export,
        otlp.ExportTraceServiceRequest.FromString,
        otlp.ExportTraceServiceResponse.SerializeToString,
    )
    find: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(collector.find)
    server, healthy = new_server(
        handlers=[
            grpc.method_handlers_generic_handler(_OTLP, {"Export": export}),
            grpc.method_handlers_generic_handler(SERVICE, {FIND.rpartition("/")[2]: find}),
        ],
        admits={_OTLP: arguments.clients, SERVICE: ()},
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
