"""A topology with its own unit: a plain HTTP/2 reverse proxy, which routes on the header and parses nothing.

``lab up --plugin docs/examples/http2_proxy.py --topology +http2-proxy``. It learns replicas from the stream of rules.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from lab.client import Endpoints, ResolverClient, RpcChannel
from lab.client.strategies import Leased
from lab.roles import Follows, Layout, Placement, Probe, Role, Unit
from lab.routing.keys import HEADER
from lab.topologies import YES, Capabilities, Topology, yes
from lab.transport import Security, drain, listen, new_server, open_channel, run_service
from models.apis import APIS
from services.rules import RuleSet, Subscriber, run_beside

NAME = "http2-proxy"
NOT_FORWARDED = ("grpc-", "te", "content-type", "user-agent")


def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Leased:
    """Leases decisions, and sends to the proxy. Copies for a shadow go out from here: the proxy makes none."""
    resolver = ResolverClient(caller, endpoints.address_of("resolver"), security, through_envoy=False)
    return Leased(resolver, RpcChannel((endpoints.address_of(NAME),), security, peer=NAME))


def units(lab: Layout, caller: str) -> Iterator[Unit]:
    """One proxy, which all callers share."""
    if not caller:
        port, file = lab.site.port(NAME, "grpc"), Path(__file__)
        argv = ("python", lab.site.path(NAME, file.name), port.bind, lab.control_plane(NAME))
        yield Unit(NAME, NAME, argv, port, files={file.name: file.read_text()}, pod=NAME)


ROLE = Role(
    name=NAME,
    title="HTTP/2 proxy",
    placement=Placement.ALONE,
    units=units,
    probe=Probe.CONNECTED,
    follows=Follows.RULES_AND_ENDPOINTS,
    calls_models=True,
)
TOPOLOGY = Topology(
    name=NAME,
    reason="a plain reverse proxy, without what Envoy does for requests that fail",
    route="caller ⇄ resolver beside it (lease); caller → one HTTP/2 proxy, which routes on the header → model",
    path=("caller", NAME, "model"),
    asks=("resolver",),
    strategy=strategy,
    capabilities=Capabilities(leases=YES, shadow=yes("the client sends the copies"), shadow_by="caller", draining=YES),
    colour="#8c564b",
)


class Proxy(grpc.GenericRpcHandler):
    """Forwards every stream of bytes to a replica of its routing key."""

    def __init__(self) -> None:
        self._channels: dict[str, tuple[tuple[str, ...], grpc.aio.Channel]] = {}

    async def put_in_force(self, rules: RuleSet) -> None:
        """Opens channels to the replicas of keys that are new or have moved."""
        before, self._channels = self._channels, {}
        for key, replicas in rules.endpoints.items():
            if replicas and before.get(key, ((), None))[0] != replicas:
                before[key] = (replicas, open_channel(*replicas, peer=f"model/{rules.clusters[key][0]}"))
            if replicas:
                self._channels[key] = before[key]

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Takes every method but those of gRPC's own services."""
        path = handler_call_details.method
        handler: Any = grpc.stream_stream_rpc_method_handler(partial(self._forward, path))
        return None if path.startswith("/grpc.") else handler

    async def _forward(self, path: str, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        headers = [each for each in context.invocation_metadata() if not each[0].startswith(NOT_FORWARDED)]
        key = str(dict(headers).get(HEADER, ""))
        if key not in self._channels:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"routing key {key!r}: no replica")
        channel: Any = self._channels[key][1]  # open until no key and no request needs it
        call = channel.stream_stream(path)(requests, timeout=context.time_remaining(), metadata=headers)
        try:
            async for response in call:
                yield response
            context.set_trailing_metadata(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details(), tuple(error.trailing_metadata() or ()))
        finally:
            call.cancel()


async def serve(stop: asyncio.Event, address: str, control_plane: str) -> None:
    """Follows the rules and serves until it is stopped; then drains."""
    proxy = Proxy()
    server, health = new_server(handlers=[proxy], admits={api.service: ("caller",) for api in APIS.values()})
    listen(server, address)
    await server.start()
    rules = Subscriber(node=NAME, role=NAME, control_plane=control_plane, apply=proxy.put_in_force, with_endpoints=True)
    await run_beside(stop, rules)
    await drain(server, health, grace_s=10.0)


if __name__ == "__main__":
    run_service(partial(serve, address=sys.argv[1], control_plane=sys.argv[2]))
