"""The replicas of one routing key, each over its own channel: where this gateway picks one by itself.

It does for use cases with resilience settings, and by any picker but round-robin. All other keys share a channel over
which gRPC balances (see ``pool``), which costs less.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from lab.pickers import DEFAULT_PICKER, GATEWAY, PICKERS, Asked, Chooses, Pick, Picker, offered
from lab.routing.resilience import Health, Hedge, Policy, RetryBudget
from services.gateway.attempts_in_flight import AttemptsInFlight
from services.gateway.channel_pool import ChannelPool, Connection
from services.gateway.pick_queue import PickQueue
from services.gateway.picked_for import NOBODY, PickedFor
from services.gateway.picks import KEPT, Picking, PickLog, Signal, SignalSettings
from services.gateway.request import FullError

if TYPE_CHECKING:
    from lab.pickers import Seen

_CHECK = "/grpc.health.v1.Health/Check"
_CHECK_REQUEST = health_pb2.HealthCheckRequest().SerializeToString()
# Statuses that Envoy's outlier detection counts as failures of a replica.
_FAILURES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
# Share of a new replica at the beginning of its slow start, as Envoy's.
_FIRST_SHARE = 0.1

MODEL = "model"
"""Role that a replica must prove, where its cluster is not known."""


def peer_of(cluster: str) -> str:
    """Identity that the replicas of a model cluster must prove; any model's if ``cluster`` is empty."""
    return f"{MODEL}/{cluster}" if cluster else MODEL


class Replica(Connection):
    """One replica, and the channel to it.

    Attributes:
        since: when it joined, by :func:`time.monotonic`; 0 for the replicas of the first update.
        is_standby: whether it gets requests only while no other replica can answer.
        address: ``ip:port``.
        signal: of its load; None if nobody goes by it.
    """

    def __init__(self, address: str, group: Replicas, channels: ChannelPool, peer: str = MODEL) -> None:
        super().__init__((address,), channels, peer)
        self.since = 0.0
        self.address = address
        self.signal = (
            Signal(group.signal, self, address, group.attempts_to(address), group.on_kv_events)
            if group.signal is not None
            else None
        )
        self.is_standby = False
        self._group = group
        self._failures = 0
        self._ejected_until = 0.0
        self._healthy = True
        health = group.policy.health
        self._probe = asyncio.create_task(self._probe_for_ever(health)) if health is not None else None

    @property
    def healthy(self) -> bool:
        """Whether its channel is connected, and it reports SERVING if the policy has health checks."""
        return self._healthy and self.channel.reachable

    def ejected(self, now: float) -> bool:
        """Whether outlier detection has taken it out."""
        return now < self._ejected_until

    def share(self, now: float, slow_start_s: float) -> float:
        """Part of its full share of requests that it gets during slow start, above 0 to 1."""
        return min(1.0, max(_FIRST_SHARE, (now - self.since) / slow_start_s)) if slow_start_s else 1.0

    def release(self, code: grpc.StatusCode | None = None, request: PickedFor | None = None) -> None:
        """Counts an attempt out, with its status; None if it was cancelled, which says nothing about the replica."""
        super().release(code)
        self._group.ended(self, code, request)
        self._group.budget.in_flight -= 1
        outliers = self._group.policy.outliers
        if outliers is None or code is None:
            return
        if code not in _FAILURES:
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= outliers.errors and self._group.may_eject_one():
            self._failures = 0
            self._ejected_until = time.monotonic() + outliers.eject_s

    async def _probe_for_ever(self, health: Health) -> None:
        rpc = self.channel.raw(_CHECK)
        failures = 0
        while True:
            try:
                answer = health_pb2.HealthCheckResponse.FromString(await rpc(_CHECK_REQUEST, timeout=health.every_s))
                serves = answer.status == health_pb2.HealthCheckResponse.SERVING
            except grpc.aio.AioRpcError:
                serves = False
            failures = 0 if serves else failures + 1
            if not failures or failures >= health.unhealthy:
                self._healthy = not failures
            await asyncio.sleep(health.every_s)

    async def leave(self) -> None:
        """Gives the channel back once no attempt is in flight."""
        self.stop()
        await super().leave()

    def stop(self) -> None:
        """Ends the health checks, and reads its load no more."""
        if self.signal is not None:
            self.signal.stop()
        if self._probe is not None:
            self._probe.cancel()


class Replicas:
    """A routing key's replicas under one policy and one picker.

    Attributes:
        policy: retries, hedging, outlier detection and so on.
        budget: grants retries and hedges, and counts the attempts in flight to all replicas.
        signal: of the replicas' load, how to get it; None if the picker does not choose for each request.
        on_kv_events: takes the batches of their KV events; None if the picker does not follow them.
        queue: where requests wait for a replica with room; None if the picker lets none wait.
    """

    def __init__(
        self,
        policy: Policy,
        channels: ChannelPool,
        picker: Picker | None = None,
        picking: Picking | None = None,
    ) -> None:
        self.policy = policy
        self._picker = picker or PICKERS[DEFAULT_PICKER]
        made, picking = self._picker.at(GATEWAY), picking or Picking(SignalSettings(), PickLog())
        self._chooser = made.make() if isinstance(made, Chooses) else None
        self._pick: Pick | None = None if self._chooser is not None else made()
        self.signal = picking.signal if self._chooser is not None else None
        self._log, self._group = picking.log, picking.log.new_group()
        self._open: dict[tuple[str, str], list[tuple[int, Asked]]] = {}
        self._attempts: dict[str, AttemptsInFlight] = {}
        follows = isinstance(made, Chooses) and made.follows_kv_events
        self.on_kv_events = self._hear if follows else None
        queues: Any = self._chooser if isinstance(made, Chooses) and made.queues else None
        self.queue = PickQueue(self, queues, picking, self._group, self._picker.name) if queues is not None else None
        self._picks_prefillers = isinstance(made, Chooses) and made.picks_prefillers
        self._heard: list[tuple[str, int, bytes]] = []
        self.budget = RetryBudget(policy)
        self._channels = channels
        self._by_address: dict[str, Replica] = {}

    @property
    def hedge(self) -> Hedge | None:
        """When a second attempt is made beside a slow first one; None if never."""
        return self.policy.hedge

    def take(
        self,
        tried: Collection[object] = (),
        request: PickedFor | None = None,
        saw: dict[str, Seen] | None = None,
        queued: int = 0,
    ) -> Replica | None:
        """The replica that the picker picks, with one more attempt in flight; None if none is healthy.

        Args:
            tried: replicas that the request was sent to before; chosen only if there is no other.
            request: for which it is picked; None for a shadow copy.
            saw: the replicas to pick among, as :meth:`seen` has returned them just now; if None, those that it would.
            queued: number in the log of its wait for a replica with room; 0 if it has not waited.

        Raises:
            FullError: the circuit breaker's bound is reached.
        """
        breaker = self.policy.breaker
        if breaker is not None and breaker.requests and self.budget.in_flight >= breaker.requests:
            raise FullError(f"{breaker.requests} requests are in flight, its circuit breaker's bound; try again later")
        now = time.monotonic()
        usable = self._usable(now) if saw is None else [*map(self._by_address.__getitem__, saw)]
        others = [each for each in usable if each not in tried] if tried else usable
        if self._chooser is None:
            taken = self._next(others or usable, now)
        else:
            taken = self._choose(others or usable, tried, request, saw or _seen_of(usable), queued)
        if taken is not None:
            taken.in_flight += 1
            self.budget.in_flight += 1
        return taken

    def _next(self, usable: list[Replica], now: float) -> Replica | None:
        if not usable or self._pick is None:
            return None
        shares = [each.share(now, self.policy.slow_start_s) for each in usable]
        if min(shares) < 1:
            return random.choices(usable, shares)[0]  # noqa: S311 (nothing secret)
        picked: Replica = self._pick(usable)
        return picked

    def _usable(self, now: float) -> list[Replica]:
        usable = [each for each in self._by_address.values() if each.healthy and not each.ejected(now)]
        # Standbys only while no other is left.
        return [each for each in usable if not each.is_standby] or usable

    def seen(self) -> dict[str, Seen]:
        """The replicas that may be picked now, as the chooser sees them, by address."""
        return _seen_of(self._usable(time.monotonic()))

    def _choose(
        self,
        usable: list[Replica],
        tried: Collection[object],
        request: PickedFor | None,
        saw: dict[str, Seen],
        queued: int,
    ) -> Replica | None:
        """The replica that the chooser chooses; the log has what it saw."""
        if not usable or self._chooser is None or self.signal is None:
            return None
        began_ns = time.perf_counter_ns()
        asked = NOBODY if request is None else request.read()
        seen = [saw[each.address] for each in usable]
        among = offered(seen, self.signal.stale, self.signal.stale_ms)
        picked = self._chooser.pick(asked, among)
        address = among[picked].address
        chooser: Any = self._chooser
        prefiller = chooser.prefiller(asked, among, picked) if self._picks_prefillers else ""
        place = [each.address for each in seen].index(address)
        before = [each.address for each in self._by_address.values() if each in tried]
        if request is not None:
            request.prefiller = prefiller
        took_ns = time.perf_counter_ns() - began_ns
        heard, self._heard = self._heard, []
        its = self._group, self._picker.name, asked
        number = self._log.pick(*its, seen, address, before, took_ns, heard, queued, prefiller)
        self._open.setdefault((asked.request_id, address), []).append((number, asked))
        self.attempts_to(address).add(number, asked.tokens)
        return usable[place]

    def _hear(self, address: str, sequence: int, payload: bytes) -> None:
        """Passes a batch of KV events on to the chooser, and keeps it for the log."""
        chooser: Any = self._chooser
        chooser.on_kv_events(address, sequence, payload)
        self._heard.append((address, sequence, payload))
        if len(self._heard) > KEPT:
            self._heard.pop(0)
            self._log.dropped += 1

    def ended(self, replica: Replica, code: grpc.StatusCode | None, request: PickedFor | None) -> None:
        """Tells the chooser and the log that an attempt has ended."""
        if self._chooser is None:
            return
        key = (NOBODY if request is None else request.read()).request_id, replica.address
        number, asked = self._open[key].pop()
        if not self._open[key]:
            del self._open[key]
        self._chooser.ended(asked, replica.address)
        self._attempts[replica.address].end(number)
        self._log.end(number, "CANCELLED" if code is None else code.name, "" if request is None else request.served)
        if self.queue is not None:
            self.queue.dispatch_soon()

    def attempts_to(self, address: str) -> AttemptsInFlight:
        """Those in flight to an address, for a picker that chooses for each request."""
        if address not in self._attempts:
            self._attempts[address] = AttemptsInFlight(self.signal.release_s if self.signal is not None else 0.0)
        return self._attempts[address]

    def may_eject_one(self) -> bool:
        """Whether outlier detection may take one more replica out."""
        now, outliers = time.monotonic(), self.policy.outliers
        ejected = 1 + sum(each.ejected(now) for each in self._by_address.values())
        return outliers is not None and ejected * 100 <= outliers.at_most * len(self._by_address)

    async def connect(
        self,
        addresses: Collection[str],
        standby: Collection[str],
        timeout_s: float,
        peer: str = MODEL,
        standby_peer: str = MODEL,
    ) -> dict[str, Replica]:
        """Replicas at all these addresses: the known ones, and new ones, connected if that is possible in time."""
        known = self._by_address
        wanted: dict[str, Replica] = {}
        for address in (*addresses, *standby):
            is_standby = address in standby and address not in addresses
            wanted_peer = standby_peer if is_standby else peer
            before = known.get(address)
            is_known = before is not None and before.peer == wanted_peer
            each = before if before is not None and is_known else Replica(address, self, self._channels, wanted_peer)
            each.is_standby = is_standby
            wanted[address] = each
        new = [each for address, each in wanted.items() if each is not known.get(address)]
        if known:
            for each in new:
                each.since = time.monotonic()
        await asyncio.gather(*(each.channel.try_connect(timeout_s) for each in new))
        return wanted

    def put_in_force(self, replicas: dict[str, Replica]) -> list[Replica]:
        """Sends to these replicas from now on; returns those that get no requests any more."""
        gone = [each for address, each in self._by_address.items() if each is not replicas.get(address)]
        self._by_address = replicas
        self._attempts = {name: its for name, its in self._attempts.items() if its or name in replicas}
        return gone

    def all(self) -> list[Replica]:
        """All replicas."""
        return list(self._by_address.values())


def _seen_of(usable: Iterable[Replica]) -> dict[str, Seen]:
    return {each.address: each.signal.seen() for each in usable if each.signal is not None}
