"""``python -m lab.plugins.pages.edge``: the edge in front of pages."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from pathlib import Path

from lab.plugins.pages.edge.role import KEY_VARIABLE
from lab.plugins.pages.edge.service import LOG_FIELDS, SERVICE, Edge
from lab.reading import read_json
from lab.transport import drain, listen, new_server, open_channel, run_service, serve_metrics
from lab.transport.rpc_logs import RequestLog
from models.proto.caller.v1 import caller_pb2_grpc

_GRACE_S = 5.0
_log = logging.getLogger("edge")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.plugins.pages.edge", description="Admits users to pages.")
    parser.add_argument("--name", required=True, help="of this unit")
    parser.add_argument("--listen", required=True, help="ip:port to serve on")
    parser.add_argument("--callers", required=True, type=Path, help="JSON file: caller → ip:port")
    parser.add_argument("--user-rps", required=True, type=float, help="pages of one user, per second")
    parser.add_argument("--access-log", type=Path, help="file for the access log, a line of JSON each [default: none]")
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    return parser.parse_args()


async def _serve(stop: asyncio.Event, arguments: argparse.Namespace) -> None:
    serve_metrics(arguments.metrics)
    log = RequestLog(arguments.access_log, LOG_FIELDS)
    key = bytes.fromhex(os.environ[KEY_VARIABLE])
    stubs = {
        name: caller_pb2_grpc.PagesStub(open_channel(address, peer=f"caller/{name}"))
        for name, address in read_json(arguments.callers).items()
    }
    edge = Edge(arguments.name, stubs, key=key, user_rps=arguments.user_rps, log=log)
    server, healthy = new_server(handlers=[edge.handler()], admits={SERVICE: ("caller",)})
    port = listen(server, arguments.listen)
    await server.start()
    _log.info("%s admits users on port %d", arguments.name, port)
    async with log.running():
        await stop.wait()
        await drain(server, healthy, grace_s=_GRACE_S)


if __name__ == "__main__":
    arguments = _arguments()
    run_service(lambda stop: _serve(stop, arguments))
