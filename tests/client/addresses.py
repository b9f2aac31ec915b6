"""Addresses for clients of any topology, and clients that are ready."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lab.client import Client, DirectTarget, Endpoints
from lab.topologies import TOPOLOGIES, open_client
from models.proto.control.v1 import rules_pb2
from tests.parts import ControlPlane, Model, gateway_up, resolver_up

NOBODY = "127.0.0.1:1"
"""Where nothing listens."""


@asynccontextmanager
async def everything(
    control_plane: ControlPlane, model: Model, rules: rules_pb2.RulesUpdate, **direct: DirectTarget
) -> AsyncIterator[Endpoints]:
    """A resolver and a gateway that have applied the rules, the model in place of each proxy, and no help to pick."""
    async with resolver_up(control_plane.address) as resolver, gateway_up(control_plane.address) as gateway:
        await control_plane.put_in_force(rules, "resolver", "gateway")
        yield Endpoints(
            {
                "resolver": (resolver,),
                **{role: (NOBODY,) for each in TOPOLOGIES.values() for role in each.aided_by},
                **{role: (model.address,) for each in TOPOLOGIES.values() for role in each.between},
                "control-plane": (control_plane.address,),
                "gateway": (gateway,),
            },
            direct=direct,
        )


@asynccontextmanager
async def ready(topology: str, endpoints: Endpoints, **options: Any) -> AsyncIterator[Client]:
    """A client of homepage's that is ready."""
    client = open_client(topology, "homepage", endpoints, **options)
    try:
        await client.ready()
        yield client
    finally:
        await client.close()
