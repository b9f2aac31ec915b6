"""``python -m lab.plugins.endpoint_picker``: an endpoint picker, which follows the control plane's endpoints."""

from __future__ import annotations

import argparse
import asyncio
import logging
from functools import partial
from pathlib import Path

from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from grpc_health.v1 import health_pb2

from lab.pickers import DEFAULT_PICKER, GATEWAY, PICKERS, Chooses
from lab.plugins.endpoint_picker.choices import Choices
from lab.plugins.endpoint_picker.contract import HEALTH_SERVICES, SERVICE
from lab.plugins.endpoint_picker.policy import order_of
from lab.plugins.endpoint_picker.service import LOG_FIELDS, PickerService
from lab.plugins.endpoint_picker.units import ENVOYS, PICKER
from lab.registry import add_plugins
from lab.transport import drain, expose, listen, new_server, run_service, serve_metrics
from lab.transport.rpc_logs import RequestLog
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc
from services.gateway.picks import GatewayPicks, Picking, PickLog, signal_in
from services.rules import RuleSet, Subscriber, run_beside

_GRACE_S = 2.0
JOURNAL = picks_pb2.DESCRIPTOR.services_by_name["PickJournal"].full_name
_log = logging.getLogger("lab.plugins.endpoint_picker")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab.plugins.endpoint_picker",
        description="Picks the endpoint of each request, for an Envoy's ext_proc.",
    )
    parser.add_argument("--name", required=True, help="this process's name at the control plane")
    parser.add_argument("--listen", required=True, help="ip:port to serve on")
    parser.add_argument("--control-plane", required=True, help="host:port of the control plane; several with commas")
    parser.add_argument("--picker", default=DEFAULT_PICKER, help="the policy [%(default)s]")
    parser.add_argument("--signal", type=signal_in, default="{}", help="of load, as the spec's [signal], in JSON")
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    parser.add_argument("--access-log", type=Path, help="file for the pick log, a line of JSON each [default: none]")
    parser.add_argument("--plugin", action="append", type=Path, default=[], help="Python file that may define it")
    return parser.parse_args()


async def _serve(stop: asyncio.Event, arguments: argparse.Namespace) -> None:
    serve_metrics(arguments.metrics)
    add_plugins(arguments.plugin)
    log = RequestLog(arguments.access_log, LOG_FIELDS)
    configured = PICKERS[arguments.picker]
    picks, choices = PickLog(), None
    if isinstance(configured.at(GATEWAY), Chooses):
        choices = Choices(configured, Picking(arguments.signal, picks))
    picker = PickerService(None if choices else partial(order_of, configured), log, choices)
    server, healthy = new_server(admits={SERVICE: ENVOYS, JOURNAL: ()})
    external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(picker, server)
    picks_pb2_grpc.add_PickJournalServicer_to_server(GatewayPicks(picks), server)
    if choices is not None:
        prompts = choices.prompts
        expose("lab_picker_prompts_total", "Requests by what was read of their prompts.", lambda: _by(prompts), ["as"])

    async def report(status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *HEALTH_SERVICES):
            await healthy.set(service, status)

    async def apply(rules: RuleSet) -> None:
        await picker.put_in_force(rules)
        await report(health_pb2.HealthCheckResponse.SERVING)

    await report(health_pb2.HealthCheckResponse.NOT_SERVING)
    await healthy.set("liveness", health_pb2.HealthCheckResponse.SERVING)
    expose("lab_picker_requests_total", "Requests by what the picker answered.", lambda: _by(picker.outcomes), ["as"])
    expose("lab_picker_picks_total", "Picks by what came of them.", lambda: _by(picker.results), ["as"])
    expose("lab_picker_body_bytes_total", "Bytes of bodies that reached the picker.", lambda: picker.body_bytes)
    port = listen(server, arguments.listen)
    await server.start()
    _log.info("%s picks by %s on port %d", arguments.name, arguments.picker, port)
    subscriber = Subscriber(
        node=arguments.name, role=PICKER, control_plane=arguments.control_plane, apply=apply, with_endpoints=True
    )
    async with log.running():
        await run_beside(stop, subscriber)
        _log.info("%s stops", arguments.name)
        await drain(server, healthy, grace_s=_GRACE_S, linger_s=0)
        if choices is not None:
            await choices.close()


def _by(counts: dict[str, int]) -> dict[tuple[str], float]:
    return {(name,): float(count) for name, count in counts.items()}


if __name__ == "__main__":
    arguments = _arguments()
    run_service(lambda stop: _serve(stop, arguments))
