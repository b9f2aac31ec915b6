"""A client with leases that picks the replica of each request, and names it to the Envoy beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.client import Endpoints, ResolverClient, RpcChannel
from lab.client.strategies import Leased
from lab.plugins.endpoint_picker.contract import DESTINATION
from lab.plugins.mesh_picker.picks import ClientPicks
from lab.plugins.mesh_picker.units import SIDECAR, SIGNALS
from lab.transport import open_channel
from lab.transport.channels import beside

if TYPE_CHECKING:
    from lab.routing.attempts import Decision, RequestAttempts
    from lab.transport import Security
    from models.apis import Method


class PickingChannel(RpcChannel):
    """A channel to a sidecar whose requests name the replica that is picked for them.

    Attributes:
        picks: picks it.
    """

    def __init__(self, sidecar: str, security: Security | None, picks: ClientPicks) -> None:
        super().__init__((sidecar,), security)
        self.picks = picks

    def rpc(self, method: Method, *, parsed: bool = True) -> Any:
        """As :meth:`RpcChannel.rpc`; without a pick the request has no such header."""
        rpc = super().rpc(method, parsed=parsed)

        def send(payload: bytes, *, timeout: float, metadata: tuple[tuple[str, Any], ...]) -> Any:
            attempt = self.picks.pick(method.path, payload, dict(metadata))
            if attempt is None:
                return rpc(payload, timeout=timeout, metadata=metadata)
            call = rpc(payload, timeout=timeout, metadata=(*metadata, (DESTINATION, attempt.address)))
            attempt.follow(call)
            return call

        return send


class PickingLeased(Leased):
    """Leases decisions; follows the replicas of the keys that they name."""

    channel: PickingChannel

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The one channel, and a decision whose replicas are known, if they can be had."""
        channel, decision = await super().decide(attempts, context)
        await self.channel.picks.follow(each.routing_key for each in decision.targets)
        return channel, decision

    async def close(self) -> None:
        """Reports the last picks, and closes all channels."""
        await self.channel.picks.close()
        await super().close()


def picking(caller: str, endpoints: Endpoints, security: Security | None) -> PickingLeased:
    """The strategy of topology ``mesh-picker``."""
    sidecar, resolver, signals = map(endpoints.address_of, (SIDECAR, "resolver", SIGNALS))
    picks = ClientPicks(open_channel(signals, security=security, peer=SIGNALS, keepalive=True))
    channel = PickingChannel(sidecar, beside(sidecar), picks)
    return PickingLeased(ResolverClient(caller, resolver, security), channel)
