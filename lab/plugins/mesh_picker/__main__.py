"""``python -m lab.plugins.mesh_picker``: replica signals for one caller, which follow the control plane's endpoints."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from grpc_health.v1 import health_pb2

from lab.pickers import DEFAULT_PICKER, PICKERS
from lab.plugins.mesh_picker.service import Signals
from lab.plugins.mesh_picker.units import SIGNALS
from lab.registry import add_plugins
from lab.transport import drain, listen, new_server, run_service, serve_metrics
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc
from services.gateway.picks import signal_in
from services.rules import RuleSet, Subscriber, run_beside

_GRACE_S = 2.0
_SIGNALS, _JOURNAL = (
    picks_pb2.DESCRIPTOR.services_by_name[name].full_name for name in ("ReplicaSignals", "PickJournal")
)
_log = logging.getLogger("lab.plugins.mesh_picker")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab.plugins.mesh_picker",
        description="Passes the load of replicas on to the clients of a caller, and keeps what they pick.",
    )
    parser.add_argument("--name", required=True, help="this process's name at the control plane")
    parser.add_argument("--owner", required=True, help="caller whose clients it serves")
    parser.add_argument("--listen", required=True, help="ip:port to serve on")
    parser.add_argument("--control-plane", required=True, help="host:port of the control plane; several with commas")
    parser.add_argument("--picker", default=DEFAULT_PICKER, help="the policy of the clients [%(default)s]")
    parser.add_argument("--signal", default="{}", help="of load, as the spec's [signal], in JSON")
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    parser.add_argument("--plugin", action="append", type=Path, default=[], help="Python file that may define it")
    return parser.parse_args()


async def _serve(stop: asyncio.Event, arguments: argparse.Namespace) -> None:
    serve_metrics(arguments.metrics)
    add_plugins(arguments.plugin)
    picker = PICKERS[arguments.picker]
    signals = Signals(arguments.owner, picker, signal_in(arguments.signal), arguments.signal)
    server, healthy = new_server(admits={_SIGNALS: ("caller",), _JOURNAL: ()})
    picks_pb2_grpc.add_ReplicaSignalsServicer_to_server(signals, server)
    picks_pb2_grpc.add_PickJournalServicer_to_server(signals, server)
    await healthy.set("", health_pb2.HealthCheckResponse.NOT_SERVING)

    async def apply(rules: RuleSet) -> None:
        await signals.put_in_force(rules)
        await healthy.set("", health_pb2.HealthCheckResponse.SERVING)

    port = listen(server, arguments.listen)
    await server.start()
    _log.info("%s serves on port %d for %s", arguments.name, port, arguments.owner)
    subscriber = Subscriber(
        node=arguments.name, role=SIGNALS, control_plane=arguments.control_plane, apply=apply, with_endpoints=True
    )
    await run_beside(stop, subscriber)
    _log.info("%s stops", arguments.name)
    await drain(server, healthy, grace_s=_GRACE_S, linger_s=0)
    await signals.close()


if __name__ == "__main__":
    arguments = _arguments()
    run_service(lambda stop: _serve(stop, arguments))
