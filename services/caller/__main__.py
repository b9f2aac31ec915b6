"""``python -m services.caller``: one caller, such as the homepage."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from lab.registry import add_plugins
from lab.transport import drain, enable_reflection, listen, new_server, run_service, serve_metrics
from lab.transport.rpc_logs import RequestLog
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from services.caller.config import CallerConfig, read_config
from services.caller.page_builder import PageBuilder
from services.caller.page_journal import PageJournal
from services.caller.service import LOG_FIELDS, Caller

_GRACE_S = 5.0
_SERVICE, _PAGES = (caller_pb2.DESCRIPTOR.services_by_name[name].full_name for name in ("Caller", "Pages"))

_log = logging.getLogger("services.caller")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.caller", description="A service that calls models.")
    parser.add_argument("--name", required=True, help="its identity, e.g. homepage")
    parser.add_argument("--listen", required=True, help="ip:port to serve on")
    parser.add_argument("--config", required=True, type=Path, help="JSON file, see services/caller/config.py")
    parser.add_argument("--plugin", action="append", type=Path, default=[], help="file that adds topologies")
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    parser.add_argument(
        "--access-log", type=Path, help="file for the access log, one line of JSON a call [default: none]"
    )
    return parser.parse_args()


async def _serve(stop: asyncio.Event, arguments: argparse.Namespace, config: CallerConfig, log: RequestLog) -> None:
    serve_metrics(arguments.metrics)
    caller = Caller(config, log)
    server, healthy = new_server(admits={_SERVICE: (), _PAGES: ("caller", *config.fronted_by)})
    caller_pb2_grpc.add_CallerServicer_to_server(caller, server)
    pages = PageBuilder(caller, PageJournal(arguments.config.parent))
    caller_pb2_grpc.add_PagesServicer_to_server(pages, server)
    enable_reflection(server, [_SERVICE, _PAGES])
    port = listen(server, arguments.listen)
    await server.start()
    _log.info("%s serves on port %d by %s", config.name, port, ", ".join(config.topologies))
    async with log.running():
        await stop.wait()
        _log.info("%s stops", config.name)
        await drain(server, healthy, grace_s=_GRACE_S)
        await caller.close()


if __name__ == "__main__":
    arguments = _arguments()
    add_plugins(arguments.plugin)
    log = RequestLog(arguments.access_log, LOG_FIELDS)
    run_service(lambda stop: _serve(stop, arguments, read_config(arguments.name, arguments.config), log))
