"""``python -m services.resolver``: one resolver, beside a caller or shared."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from grpc_health.v1 import health_pb2

from lab.transport import drain, listen, new_server, run_service, serve_metrics
from lab.transport.rpc_logs import LogsRequests, RequestLog
from models.proto.control.v1 import resolver_pb2, resolver_pb2_grpc
from services.resolver.service import LOG_FIELDS, RESOLVE, Resolver, described
from services.rules import RuleSet, Subscriber, run_beside

_GRACE_S = 2.0
_RESOLVER, _JOURNAL = (
    resolver_pb2.DESCRIPTOR.services_by_name[name].full_name for name in ("Resolver", "ResolverJournal")
)

_log = logging.getLogger("services.resolver")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.resolver", description="Decides where requests go.")
    parser.add_argument("--name", required=True, help="this process's name at the control plane")
    parser.add_argument("--listen", required=True, help="ip:port to serve on")
    parser.add_argument("--control-plane", required=True, help="host:port of the control plane; several with commas")
    parser.add_argument("--owner", help="caller that it runs beside and resolves for [default: callers share it]")
    parser.add_argument(
        "--lease-ttl", type=float, default=30.0, help="time for which a decision may be reused, seconds [%(default)g]"
    )
    parser.add_argument(
        "--max-stale", type=float, default=300.0, help="the same while the resolver cannot be reached [%(default)g]"
    )
    parser.add_argument("--metrics", default="", help="ip:port that serves metrics [default: none]")
    parser.add_argument(
        "--access-log", type=Path, help="file for the access log, one line of JSON a question [default: none]"
    )
    return parser.parse_args()


async def _serve(stop: asyncio.Event, arguments: argparse.Namespace) -> None:
    serve_metrics(arguments.metrics)
    resolver = Resolver(
        name=arguments.name,
        owner=arguments.owner,
        lease_ttl_s=arguments.lease_ttl,
        max_stale_s=arguments.max_stale,
    )
    log = RequestLog(arguments.access_log, LOG_FIELDS)
    server, healthy = new_server(
        interceptors=[LogsRequests(log, [RESOLVE], described)] if arguments.access_log else (),
        admits={_RESOLVER: ("caller",), _JOURNAL: ()},
    )
    resolver_pb2_grpc.add_ResolverServicer_to_server(resolver, server)
    resolver_pb2_grpc.add_ResolverJournalServicer_to_server(resolver.journal, server)
    await healthy.set("", health_pb2.HealthCheckResponse.NOT_SERVING)

    async def apply(rules: RuleSet) -> None:
        await resolver.put_in_force(rules)
        await healthy.set("", health_pb2.HealthCheckResponse.SERVING)

    port = listen(server, arguments.listen)
    await server.start()
    _log.info("%s serves on port %d for %s", arguments.name, port, arguments.owner or "everybody")
    async with log.running():
        subscriber = Subscriber(
            node=arguments.name, role="resolver", control_plane=arguments.control_plane, apply=apply
        )
        await run_beside(stop, subscriber)
        _log.info("%s stops", arguments.name)
        resolver.close()
        # Its clients have no other resolver to leave for; they live on their leases.
        await drain(server, healthy, grace_s=_GRACE_S, linger_s=0)


if __name__ == "__main__":
    arguments = _arguments()
    run_service(lambda stop: _serve(stop, arguments))
