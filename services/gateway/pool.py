"""The backends of each routing key, over channels of ``channel_pool``; an update under load fails no request."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

from lab.pickers import DEFAULT_PICKER, PICKERS, Picker
from lab.routing.keys import version_key
from lab.routing.resilience import Policy
from services.gateway.channel_pool import ChannelPool, Connection
from services.gateway.picks import Picking, PickLog, SignalSettings
from services.gateway.replicas import Replicas, peer_of

if TYPE_CHECKING:
    from services.gateway.picked_for import PickedFor
    from services.rules import RuleSet

_CONNECT_TIMEOUT_S = 0.5
_NO_POLICY = Policy()


class Backend(Connection):
    """All replicas at one set of addresses, over one channel; gRPC balances, and leaves out those it cannot reach.

    It has the interface of both :class:`services.gateway.replicas.Replicas` and a connection to one of them.

    Attributes:
        budget: None: nothing is retried.
        hedge: None: nothing is hedged.
        queue: None: nothing waits here.
    """

    budget = hedge = queue = None

    def take(self, tried: Collection[object] = (), request: PickedFor | None = None) -> Backend:
        """Itself, with one more attempt in flight."""
        del tried, request
        self.in_flight += 1
        return self


class Pool:
    """Backends by routing key. Keys with the same replicas and no policy share a channel, if the picker is gRPC's.

    Args:
        picker: picks a replica; round-robin by default.
        picking: for pickers that choose for each request; by default, with a log that nobody reads.
    """

    def __init__(self, picker: Picker | None = None, picking: Picking | None = None) -> None:
        self._picker = picker or PICKERS[DEFAULT_PICKER]
        self._picking = picking or Picking(SignalSettings(), PickLog())
        self._channels = ChannelPool()
        self._by_key: dict[str, Backend | Replicas] = {}
        self._by_addresses: dict[tuple[str, tuple[str, ...]], Backend] = {}
        self._with_policy: dict[str, Replicas] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def backend(self, routing_key: str) -> Backend | Replicas | None:
        """Replicas of a routing key; None if it has none."""
        return self._by_key.get(routing_key)

    async def put_in_force(self, rules: RuleSet) -> None:
        """Connects to new replicas, then swaps, then leaves the unused ones. Calls must not overlap."""
        standby = rules.standby
        picked_here = standby if self._picker.name == DEFAULT_PICKER else rules.endpoints
        own = {key: rules.policies.get(version_key(key)) for key in rules.endpoints} if rules.policies else {}
        policies = dict.fromkeys(picked_here, _NO_POLICY) | {key: policy for key, policy in own.items() if policy}
        all_wanted = {
            key: tuple(sorted(addresses)) for key, addresses in rules.endpoints.items() if addresses or key in standby
        }
        peers = {key: tuple(map(peer_of, rules.clusters.get(key, ("", "")))) for key in all_wanted}
        wanted = {key: (peers[key][0], addresses) for key, addresses in all_wanted.items() if key not in policies}
        new = {
            (peer, addresses): Backend(addresses, self._channels, peer)
            for peer, addresses in set(wanted.values()) - set(self._by_addresses)
        }
        with_policy = {
            key: before
            if (before := self._with_policy.get(key)) is not None and before.policy == policies[key]
            else Replicas(policies[key], self._channels, self._picker, self._picking)
            for key in all_wanted
            if key in policies
        }
        connecting = [
            group.connect(all_wanted[key], standby.get(key, ()), _CONNECT_TIMEOUT_S, *peers[key])
            for key, group in with_policy.items()
        ]
        _, replicas = await asyncio.gather(
            asyncio.gather(*(backend.channel.try_connect(_CONNECT_TIMEOUT_S) for backend in new.values())),
            asyncio.gather(*connecting),
        )
        leaving: list[Connection] = []
        replaced: list[Replicas] = []
        for group, each in zip(with_policy.values(), replicas, strict=True):
            leaving += group.put_in_force(each)
        for key, group in self._with_policy.items():
            if group is not with_policy.get(key):
                leaving += group.all()
                replaced.append(group)
        backends = {place: (new.get(place) or self._by_addresses[place]) for place in wanted.values()}
        leaving += [backend for place, backend in self._by_addresses.items() if place not in backends]
        self._by_addresses, self._with_policy = backends, with_policy
        self._by_key = {**{key: backends[place] for key, place in wanted.items()}, **with_policy}
        for group in replaced:
            if group.queue is not None:
                group.queue.close()
        for connection in leaving:
            task = asyncio.create_task(connection.leave())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Closes all connections at once."""
        for task in self._leaving:
            task.cancel()
        for group in self._with_policy.values():
            for each in group.all():
                each.stop()
        await self._channels.close()
