"""Channels to the replicas of each routing key; they change under load without a request noticing."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from lab.routing.resilience import Policy
from services.gateway.channel_pool import ChannelPool
from services.gateway.replicas import MODEL, Replica, Replicas, peer_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import grpc

    from lab.transport import Security

_CONNECT_TIMEOUT_S = 0.5
_NOTHING_DONE = Policy()


class Backend:
    """The replicas at one set of addresses, taken in turn; gRPC leaves out those that cannot be reached.

    Has the methods of :class:`services.gateway.replicas.Replicas` and of one of these, as no request needs to know
    which it was at.

    Attributes:
        channel: the way there.
        in_flight: attempts under way; :meth:`take` counts one in, :meth:`release` out.
        budget: None: nothing is retried.
        hedge: None: nothing is hedged.
    """

    budget = hedge = None

    def __init__(self, addresses: tuple[str, ...], channels: ChannelPool, peer: str = MODEL) -> None:
        self.channel = channels.take(addresses, peer)
        self.in_flight = 0
        self._give_back = partial(channels.give_back, addresses, peer)
        self._idle = asyncio.Event()

    def take(self, tried: Collection[object] = ()) -> Backend:
        """Itself, one attempt more under way to it."""
        del tried
        self.in_flight += 1
        return self

    def release(self, code: grpc.StatusCode | None = None) -> None:
        """An attempt is done."""
        del code
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def leave(self) -> None:
        """Gives the way back once nobody uses it; nobody begins to once another backend has taken its place."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()
        self._give_back()


Connection = Backend | Replica
"""Where an attempt goes: ``channel`` leads there, and ``release`` says that it is done, and how it went."""


class Pool:
    """Where the replicas of each routing key are. Keys with the same replicas and no policy share a channel."""

    def __init__(self, security: Security | None = None) -> None:
        self._channels = ChannelPool(security)
        self._by_key: dict[str, Backend | Replicas] = {}
        self._by_addresses: dict[tuple[str, tuple[str, ...]], Backend] = {}
        self._treated: dict[str, Replicas] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def backend(self, routing_key: str) -> Backend | Replicas | None:
        """Where requests with this key go; None if it has no replica."""
        return self._by_key.get(routing_key)

    async def put_in_force(
        self,
        endpoints: Mapping[str, tuple[str, ...]],
        policies: Mapping[str, Policy] | None = None,
        standby: Mapping[str, tuple[str, ...]] | None = None,
        clusters: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        """Connects to what is new, then swaps, then leaves what is no longer used. To be called by one at a time.

        Args:
            endpoints: by routing key, ``ip:port`` of each replica.
            policies: by routing key, of those that have one.
            standby: by routing key, of those that have any, ``ip:port`` of each replica that stands in.
            clusters: by routing key, the model clusters that these are of, and nobody else is accepted there.
        """
        standby, clusters = standby or {}, clusters or {}
        policies = {**dict.fromkeys(standby, _NOTHING_DONE), **(policies or {})}
        all_wanted = {
            key: tuple(sorted(addresses)) for key, addresses in endpoints.items() if addresses or key in standby
        }
        peers = {key: tuple(map(peer_of, clusters.get(key, ("", "")))) for key in all_wanted}
        wanted = {key: (peers[key][0], addresses) for key, addresses in all_wanted.items() if key not in policies}
        new = {
            (peer, addresses): Backend(addresses, self._channels, peer)
            for peer, addresses in set(wanted.values()) - set(self._by_addresses)
        }
        treated = {
            key: before
            if (before := self._treated.get(key)) is not None and before.policy == policies[key]
            else Replicas(policies[key], self._channels)
            for key in all_wanted
            if key in policies
        }
        connecting = [
            group.connect(all_wanted[key], standby.get(key, ()), _CONNECT_TIMEOUT_S, *peers[key])
            for key, group in treated.items()
        ]
        _, replicas = await asyncio.gather(
            asyncio.gather(*(backend.channel.try_connect(_CONNECT_TIMEOUT_S) for backend in new.values())),
            asyncio.gather(*connecting),
        )
        gone: list[Connection] = []
        for group, each in zip(treated.values(), replicas, strict=True):
            gone += group.put_in_force(each)
        for key, group in self._treated.items():
            if group is not treated.get(key):
                gone += group.all()
        backends = {place: (new.get(place) or self._by_addresses[place]) for place in wanted.values()}
        gone += [backend for place, backend in self._by_addresses.items() if place not in backends]
        self._by_addresses, self._treated = backends, treated
        self._by_key = {**{key: backends[place] for key, place in wanted.items()}, **treated}
        for connection in gone:
            task = asyncio.create_task(connection.leave())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Closes everything at once."""
        for task in self._leaving:
            task.cancel()
        for group in self._treated.values():
            for each in group.all():
                each.stop()
        await self._channels.close()
