"""``python -m services.gateway``: one replica of the API gateway."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from grpc_health.v1 import health_pb2

from lab.pickers import DEFAULT_PICKER, PICKERS
from lab.registry import add_plugins
from lab.transport import (
    RestServer,
    drain,
    enable_reflection,
    guard_of,
    is_serving,
    listen,
    new_server,
    run_service,
    serve_metrics,
)
from lab.transport.rpc_logs import RequestLog
from models.apis import APIS
from models.proto.control.v1 import gateway_pb2_grpc, picks_pb2_grpc
from services.gateway.forwarder import LOG_FIELDS, Forwarder
from services.gateway.info import GatewayInfo
from services.gateway.openai import OpenAi
from services.gateway.picks import GatewayPicks, Picking, PickLog, signal_in
from services.gateway.pool import Pool
from services.gateway.rest import rest_of
from services.gateway.shadow_sender import PoolShadowSender
from services.gateway.tenant_quota import Limiter
from services.rules import RuleSet, Subscriber, run_beside

_GRACE_S = 10.0
_ADMITS: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("control.v1.Gateway", *(api.service for api in APIS.values())), ("caller",)
) | {"control.v1.PickJournal": ()}

_log = logging.getLogger("services.gateway")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.gateway", description="One replica of the API gateway.")
    parser.add_argument("--name", required=True, help="this process's name at the control plane")
    parser.add_argument("--listen", required=True, help="ip:port to serve on")
    parser.add_argument("--rest", help="ip:port to serve REST on [default: none]")
    parser.add_argument("--control-plane", required=True, help="host:port of the control plane; several with commas")
    parser.add_argument(
        "--replicas",
        type=int,
        default=1,
        help="number of gateways among which tenants' limits are divided [%(default)s]",
    )
    parser.add_argument("--picker", default=DEFAULT_PICKER, help="picks the replica [%(default)s]")
    parser.add_argument("--signal", type=signal_in, default="{}", help="of load, as the spec's [signal], in JSON")
    parser.add_argument("--plugin", action="append", type=Path, default=[], help="Python file that may define it")
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    parser.add_argument("--access-log", type=Path, help="file for the access log, one line of JSON a request")
    return parser.parse_args()


async def _serve(stop: asyncio.Event, arguments: argparse.Namespace) -> None:
    serve_metrics(arguments.metrics)
    add_plugins(arguments.plugin)
    access_log = RequestLog(arguments.access_log, LOG_FIELDS)
    picking = Picking(arguments.signal, PickLog())
    pool = Pool(PICKERS[arguments.picker], picking)
    shadows = PoolShadowSender(pool)
    limiter = Limiter(arguments.replicas)
    forwarder = Forwarder(name=arguments.name, pool=pool, access_log=access_log, shadows=shadows, limiter=limiter)
    server, healthy = new_server(handlers=[forwarder], admits=_ADMITS)
    gateway_pb2_grpc.add_GatewayServicer_to_server(GatewayInfo(forwarder, shadows), server)
    picks_pb2_grpc.add_PickJournalServicer_to_server(GatewayPicks(picking.log), server)
    enable_reflection(server, [api.service for api in APIS.values()])
    await healthy.set("", health_pb2.HealthCheckResponse.NOT_SERVING)

    async def apply(rules: RuleSet) -> None:
        await forwarder.put_in_force(rules)
        await healthy.set("", health_pb2.HealthCheckResponse.SERVING)

    node, control_plane = arguments.name, arguments.control_plane
    subscriber = Subscriber(node=node, role="gateway", control_plane=control_plane, apply=apply, with_endpoints=True)
    guard = guard_of(_ADMITS)
    rest = RestServer(OpenAi(forwarder, rest_of(forwarder, lambda: is_serving(healthy), guard), guard))
    port = listen(server, arguments.listen)
    if arguments.rest:
        rest.listen(arguments.rest)
    await server.start()
    _log.info("%s serves on port %d", arguments.name, port)
    async with access_log.running():
        try:
            await run_beside(stop, subscriber)
            _log.info("%s stops", arguments.name)
            await asyncio.gather(drain(server, healthy, grace_s=_GRACE_S), rest.drain(grace_s=_GRACE_S))
            await shadows.settle()
        finally:
            await pool.close()


if __name__ == "__main__":
    arguments = _arguments()
    run_service(lambda stop: _serve(stop, arguments))
