"""Queues before the replicas of many clusters at once: a discrete-event simulation in NumPy.

A cluster is a *lane*. Every lane has its own replicas; a replica serves ``slots`` requests at once, and the others
wait, first come, first served. Each step takes the next arrival of every lane: it chooses a replica, and the request
begins when the first of its slots is free, which fixes its end (Kiefer and Wolfowitz, Trans. Amer. Math. Soc. 78,
1955). There is no event calendar, so a million requests take a second or two. Lanes can also be repetitions of one
cluster with other service times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lab.errors import InputError

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]

_REMEMBERED = 64
"""Requests of a replica whose ends are kept to count those in flight; four for each of its slots if that is more."""


class Balancing(StrEnum):
    """How a balancer chooses a replica; it counts only requests that it has sent itself."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    TWO_CHOICES = "two-choices"
    LEAST_REQUEST = "least-request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Retries of refused requests, as by ``retries`` in a route table.

    Attributes:
        attempts: maximum number of attempts of a request.
        budget: retries in flight per hundred first attempts in flight at the same balancer.
        at_least: number of retries in flight that are always allowed.
    """

    attempts: int = 1
    budget: float = 20.0
    at_least: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Replicas that refuse every request from some time on.

    Attributes:
        replicas: number of dead replicas in each lane; those with the lowest numbers.
        at_s: when they die, with all requests that they serve or that wait there, seconds.
        noticed_s: how long balancers still choose them, seconds.
    """

    replicas: int
    at_s: float
    noticed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The setting of each lane.

    Attributes:
        replicas: number of replicas.
        slots: requests that a replica serves at once.
        balancing: how a balancer chooses a replica.
        balancers: number of balancers; each request passes one, drawn at random.
        queue_limit: requests that may wait at a replica, up to 32; None for no limit.
        retries: how refused requests are retried.
        outage: replicas that die; None for no outage.

    Raises:
        InputError: a number is out of range.
    """

    replicas: int
    slots: int
    balancing: Balancing = Balancing.ROUND_ROBIN
    balancers: int = 1
    queue_limit: int | None = None
    retries: Retries = Retries()
    outage: Outage | None = None

    def __post_init__(self) -> None:
        for name in ("replicas", "slots", "balancers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)} is out of range; write a whole number from 1")
        if self.queue_limit is not None and not 0 <= self.queue_limit + self.slots <= _REMEMBERED // 2:
            raise InputError(f"queue_limit: {self.queue_limit} and the slots are over {_REMEMBERED // 2}; write less")
        if self.outage is not None and not 0 <= self.outage.replicas < self.replicas:
            raise InputError(f"outage: {self.outage.replicas} of {self.replicas} replicas; leave one at least")
        if self.retries.attempts < 1:
            raise InputError(f"attempts: {self.retries.attempts} is out of range; write a whole number from 1")

    @property
    def looks(self) -> bool:
        """Whether a choice depends on the number of requests at replicas."""
        counting = (Balancing.TWO_CHOICES, Balancing.LEAST_REQUEST)
        return self.balancing in counting or self.queue_limit is not None or self.retries.attempts > 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of all requests; each array has one row for each arrival and one column for each lane.

    Attributes:
        waited_s: time that each waited for a slot, seconds; NaN where it failed.
        latency_s: waiting and service time, seconds; NaN where it failed.
        attempts: number of attempts.
    """

    waited_s: Floats
    latency_s: Floats
    attempts: Ints

    @property
    def failed(self) -> Bools:
        """Which requests were refused in the end."""
        return np.isnan(self.latency_s)

    def quantile_s(self, share: float) -> float:
        """Quantile of the latency of answered requests, seconds; NaN without answers."""
        answered = self.latency_s[~self.failed]
        return float(np.quantile(answered, share)) if answered.size else float("nan")


def poisson(rate: float, shape: tuple[int, int], random: np.random.Generator) -> Floats:
    """Arrival times, seconds, at ``rate`` per second: one row for each request, one column for each lane."""
    return np.cumsum(random.exponential(1 / rate, shape), axis=0)


def simulate(arrivals_s: Floats, services_s: Floats, cluster: Cluster, random: np.random.Generator) -> Outcome:
    """Simulates all lanes.

    Args:
        arrivals_s: arrival times in order, one row for each request, one column for each lane or one for all lanes.
        services_s: service times, one row for each request, one column for each lane.
        cluster: the setting of each lane.
        random: generator of all draws; the same generator in the same state gives the same outcome.

    Raises:
        InputError: the shapes do not fit, or arrivals are not in order.
    """
    requests, lanes = services_s.shape
    if arrivals_s.shape not in ((requests, lanes), (requests, 1)):
        raise InputError(f"arrivals of shape {arrivals_s.shape} do not fit services of {services_s.shape}")
    if (np.diff(arrivals_s, axis=0) < 0).any():
        raise InputError("arrivals: their times go back; sort them")
    state = _Lanes(cluster, lanes, random)
    waited_s = np.empty((requests, lanes))
    outcome = Outcome(waited_s, np.empty_like(waited_s), np.empty((requests, lanes), np.int64))
    for number in range(requests):
        now = np.broadcast_to(arrivals_s[number], (lanes,))
        began, attempts = state.take(now, services_s[number])
        outcome.waited_s[number] = began - now
        outcome.latency_s[number] = began - now + services_s[number]
        outcome.attempts[number] = attempts
    return outcome


class _Lanes:
    """The state of all lanes. Arrays have one row for each lane."""

    def __init__(self, cluster: Cluster, lanes: int, random: np.random.Generator) -> None:
        self._cluster, self._random = cluster, random
        self._all = np.arange(lanes)
        self._free_s = np.zeros((lanes, cluster.replicas, cluster.slots))
        # Balancers start at random positions and list the replicas in random order, as real ones do.
        self._turn = random.integers(0, cluster.replicas, (lanes, cluster.balancers))
        self._order = random.permuted(np.tile(np.arange(cluster.replicas), (lanes, 1)), axis=1)
        each = max(_REMEMBERED, 4 * cluster.slots)
        remembered = (lanes, cluster.replicas, each) if cluster.looks else (0, 0, 0)
        self._ends_s = np.zeros(remembered)
        self._senders = np.zeros(remembered, np.int64)
        self._again = np.zeros(remembered, bool)

    def take(self, now_s: Floats, service_s: Floats) -> tuple[Floats, Ints]:
        """Takes the next request of each lane; returns when its service begins (NaN if refused) and its attempts."""
        cluster = self._cluster
        lanes, began = self._all, np.full(len(self._all), np.nan)
        attempts = np.zeros(len(self._all), np.int64)
        senders = self._senders_now()
        last = np.full(len(lanes), -1)
        for attempt in range(cluster.retries.attempts):
            if attempt:
                lanes = lanes[self._may_repeat(lanes, senders[lanes], now_s[lanes])]
            if not lanes.size:
                break
            chosen = self._choose(lanes, senders[lanes], now_s[lanes], last[lanes])
            attempts[lanes] += 1
            last[lanes] = chosen
            refused = self._refuses(lanes, chosen, now_s[lanes])
            served, by = lanes[~refused], chosen[~refused]
            began[served] = self._serve(served, by, now_s[served], service_s[served])
            ends_s = began[served] + service_s[served]
            if cluster.looks:
                self._remember(served, by, senders[served], ends_s, again=attempt > 0)
            if cluster.outage is not None:
                began[served[(by < cluster.outage.replicas) & (ends_s > cluster.outage.at_s)]] = np.nan
            lanes = lanes[refused]
        return began, attempts

    def _senders_now(self) -> Ints:
        balancers = self._cluster.balancers
        return self._random.integers(0, balancers, len(self._all)) if balancers > 1 else np.zeros_like(self._all)

    def _choose(self, lanes: Ints, senders: Ints, now_s: Floats, tried: Ints) -> Ints:
        """A replica for each lane: not known to be dead and, if there is another, not the one just tried."""
        first = self._first_alive(now_s)
        chosen = _CHOICES[self._cluster.balancing](self, lanes, senders, now_s, first)
        following = first + (chosen + 1 - first) % (self._cluster.replicas - first)
        return np.where(chosen == tried, following, chosen)

    def _first_alive(self, now_s: Floats) -> Ints:
        """The lowest number of the replicas that balancers choose from."""
        outage = self._cluster.outage
        if outage is None:
            return np.zeros(len(now_s), np.int64)
        return np.where(now_s >= outage.at_s + outage.noticed_s, outage.replicas, 0)

    def _in_turn(self, lanes: Ints, senders: Ints, now_s: Floats, first: Ints) -> Ints:
        del now_s
        turn: Ints = self._turn[lanes, senders]
        self._turn[lanes, senders] += 1
        alive = first + turn % (self._cluster.replicas - first)
        return np.where(first > 0, alive, self._order[lanes, turn % self._cluster.replicas])

    def _at_random(self, lanes: Ints, senders: Ints, now_s: Floats, first: Ints) -> Ints:
        del lanes, senders, now_s
        return self._random.integers(first, self._cluster.replicas)

    def _better_of_two(self, lanes: Ints, senders: Ints, now_s: Floats, first: Ints) -> Ints:
        """The better of two random replicas; as in Envoy, both may be the same."""
        one, other = (self._random.integers(first, self._cluster.replicas) for _ in range(2))
        to_one, to_other = (self._sent_to(each, lanes, senders, now_s) for each in (one, other))
        better: Ints = np.where(to_other < to_one, other, one)
        return better

    def _sent_to(self, replicas: Ints, lanes: Ints, senders: Ints, now_s: Floats) -> Ints:
        """Requests in flight at one replica of each lane from the lane's current balancer."""
        there = self._ends_s[lanes, replicas] > now_s[:, None]
        if self._cluster.balancers > 1:
            there &= self._senders[lanes, replicas] == senders[:, None]
        counts: Ints = np.count_nonzero(there, axis=1)
        return counts

    def _least(self, lanes: Ints, senders: Ints, now_s: Floats, first: Ints) -> Ints:
        counts = self._sent_by(lanes, senders, now_s) + self._random.random((len(lanes), self._cluster.replicas))
        counts[np.arange(self._cluster.replicas) < first[:, None]] = np.inf
        least: Ints = np.argmin(counts, axis=1)
        return least

    def _sent_by(self, lanes: Ints, senders: Ints, now_s: Floats) -> Ints:
        """Requests in flight at each replica of each lane from the lane's current balancer."""
        there = self._there(lanes, now_s)
        if self._cluster.balancers > 1:
            there &= self._of(self._senders, lanes) == senders[:, None, None]
        counts: Ints = np.count_nonzero(there, axis=2)
        return counts

    def _there(self, lanes: Ints, now_s: Floats) -> Bools:
        there: Bools = np.greater(self._of(self._ends_s, lanes), now_s[:, None, None])
        return there

    def _of(self, values: npt.NDArray[Any], lanes: Ints) -> npt.NDArray[Any]:
        return values if lanes is self._all else values[lanes]  # copying all lanes would dominate the cost

    def _refuses(self, lanes: Ints, chosen: Ints, now_s: Floats) -> Bools:
        cluster, outage = self._cluster, self._cluster.outage
        refused = np.zeros(len(lanes), bool)
        if outage is not None:
            refused |= (chosen < outage.replicas) & (now_s >= outage.at_s)
        if cluster.queue_limit is not None:
            there = np.count_nonzero(self._ends_s[lanes, chosen] > now_s[:, None], axis=1)
            refused |= there >= cluster.slots + cluster.queue_limit
        return refused

    def _may_repeat(self, lanes: Ints, senders: Ints, now_s: Floats) -> Bools:
        """Whether the retry budget allows another attempt, counted as Envoy and the gateway count it."""
        retries = self._cluster.retries
        mine = self._there(lanes, now_s) & (self._of(self._senders, lanes) == senders[:, None, None])
        # The refused request is in flight itself.
        in_flight = 1 + np.count_nonzero(mine, axis=(1, 2))
        again = np.count_nonzero(mine & self._of(self._again, lanes), axis=(1, 2))
        allowed = np.floor(in_flight * retries.budget / (100 + retries.budget))
        may: Bools = np.less(again, np.maximum(retries.at_least, allowed))
        return may

    def _serve(self, lanes: Ints, chosen: Ints, now_s: Floats, service_s: Floats) -> Floats:
        slot = np.argmin(self._free_s[lanes, chosen], axis=1)
        began: Floats = np.maximum(now_s, self._free_s[lanes, chosen, slot])
        self._free_s[lanes, chosen, slot] = began + service_s
        return began

    def _remember(self, lanes: Ints, chosen: Ints, senders: Ints, ends_s: Floats, *, again: bool) -> None:
        place = np.argmin(self._ends_s[lanes, chosen], axis=1)
        self._ends_s[lanes, chosen, place] = ends_s
        self._senders[lanes, chosen, place] = senders
        self._again[lanes, chosen, place] = again


_CHOICES = {
    Balancing.ROUND_ROBIN: _Lanes._in_turn,  # noqa: SLF001 (the same module)
    Balancing.RANDOM: _Lanes._at_random,  # noqa: SLF001 (same)
    Balancing.TWO_CHOICES: _Lanes._better_of_two,  # noqa: SLF001 (same)
    Balancing.LEAST_REQUEST: _Lanes._least,  # noqa: SLF001 (same)
}
