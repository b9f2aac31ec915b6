"""The behaviour of a stub as a value (service time, errors, warm-up, limits), and the random draws from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, TypeAlias

from lab.errors import InputError
from lab.routing.keys import is_routing_key

MAX_MS = 600_000.0
_MAX_SIGMA = 5.0
_MAX_KNEE = 1e6
_MAX_CONCURRENCY = 2**32 - 1
_MAX_SEED = 2**64 - 1


# NaN compares false, so the checks below refuse it too.
def _out_of_range(field: str, value: object, remedy: str) -> InputError:
    return InputError(f"{field}: {value!r} is out of range: use {remedy}")


def _require_ms(field: str, value: float) -> None:
    if not 0 <= value <= MAX_MS:
        raise _out_of_range(field, value, f"milliseconds from 0 to {MAX_MS:.0f}")


@dataclass(frozen=True, slots=True)
class ConstantLatency:
    """A constant service time of ``ms`` milliseconds."""

    ms: float = 0.0

    def __post_init__(self) -> None:
        _require_ms("constant.ms", self.ms)

    def draw_ms(self, random: Random, others: int) -> float:  # noqa: ARG002 (one signature for all)
        """Service time of the next request, ms."""
        return self.ms


@dataclass(frozen=True, slots=True)
class LognormalLatency:
    """Service times with a long tail, as in real servers.

    Attributes:
        median_ms: median service time.
        sigma: standard deviation of the logarithm; 0.4 makes p99 2.5 times the median.
    """

    median_ms: float
    sigma: float

    def __post_init__(self) -> None:
        _require_ms("lognormal.median_ms", self.median_ms)
        if not 0 < self.sigma <= _MAX_SIGMA:
            raise _out_of_range("lognormal.sigma", self.sigma, f"more than 0 and at most {_MAX_SIGMA:g}, e.g. 0.4")

    def draw_ms(self, random: Random, others: int) -> float:  # noqa: ARG002 (one signature for all)
        """Service time of the next request, ms; at most :data:`MAX_MS`."""
        return min(self.median_ms * math.exp(self.sigma * random.gauss(0.0, 1.0)), MAX_MS)


@dataclass(frozen=True, slots=True)
class LoadDependentLatency:
    """A server that slows down as its queue grows: ``ms * (1 + others / knee)``.

    Attributes:
        ms: service time of an idle server.
        knee: number of other requests in flight at which a request takes twice as long.
    """

    ms: float
    knee: float

    def __post_init__(self) -> None:
        _require_ms("load_dependent.ms", self.ms)
        if not 0 < self.knee <= _MAX_KNEE:
            remedy = f"more than 0 and at most {_MAX_KNEE:.0f} requests, e.g. 16"
            raise _out_of_range("load_dependent.knee", self.knee, remedy)

    def draw_ms(self, random: Random, others: int) -> float:  # noqa: ARG002 (one signature for all)
        """Service time of the next request while ``others`` are in flight, ms; at most :data:`MAX_MS`."""
        return min(self.ms * (1 + others / self.knee), MAX_MS)


Latency: TypeAlias = ConstantLatency | LognormalLatency | LoadDependentLatency

# Name on the command line → class; its numbers follow in the order of the fields.
LATENCIES: dict[str, type[Latency]] = {
    "constant": ConstantLatency,
    "lognormal": LognormalLatency,
    "load": LoadDependentLatency,
}


def parse_latency(text: str) -> Latency:
    """Parses ``constant:2``, ``lognormal:5,0.4`` or ``load:3,16``; the numbers are the fields of the class, in order.

    Raises:
        InputError: not of that form, or a number is out of range.
    """
    name, _, numbers = text.partition(":")
    kind = LATENCIES.get(name)
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if kind is None or len(values) != len(fields(kind)):
        forms = ", ".join(f"{each}:{','.join(field.name for field in fields(LATENCIES[each]))}" for each in LATENCIES)
        raise InputError(f"latency: {text!r} has an unknown form: use {forms}, e.g. lognormal:5,0.4")
    return kind(*values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """All settings of a stub that can change while it runs.

    Attributes:
        latency: service time of a request.
        error_rate: share of requests that fail with INTERNAL, 0 to 1: after their service time; a stream at once.
        warm_up_ms: time to load a model version.
        concurrency_limit: requests served at once; 0 for no limit.
        tenant_concurrency_limit: requests of any one tenant served at once; 0 for no limit. If it is lower than
            ``concurrency_limit``, a flood of one tenant leaves room for the others.
        queue_limit: requests over ``concurrency_limit`` that wait, first in first out, instead of being refused; 0 for
            none.
        seed: of the random draws.
        refuse_to_load: routing keys whose loading fails.
        cold_ms: extra service time of the first request after a reload; it falls linearly over the first
            ``cold_requests``.
        cold_requests: how many requests after a reload are slower.
        churn_ms: interval at which all connections are closed under their clients; 0 for never.

    Raises:
        InputError: a value is out of range; names the field, the value and the remedy.
    """

    latency: Latency = ConstantLatency()
    error_rate: float = 0.0
    warm_up_ms: float = 50.0
    concurrency_limit: int = 0
    tenant_concurrency_limit: int = 0
    queue_limit: int = 0
    seed: int = 1
    refuse_to_load: frozenset[str] = frozenset()
    cold_ms: float = 0.0
    cold_requests: int = 0
    churn_ms: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.error_rate <= 1:
            raise _out_of_range("error_rate", self.error_rate, "a share from 0 to 1, e.g. 0.01 for 1 %")
        for field in ("warm_up_ms", "cold_ms", "churn_ms"):
            _require_ms(field, getattr(self, field))
        for field, nothing in (
            ("concurrency_limit", "no limit"),
            ("tenant_concurrency_limit", "no limit"),
            ("queue_limit", "none"),
            ("cold_requests", "none"),
        ):
            if not 0 <= (value := getattr(self, field)) <= _MAX_CONCURRENCY:
                raise _out_of_range(field, value, f"a whole number from 0 ({nothing}) to {_MAX_CONCURRENCY}")
        if not 0 <= self.seed <= _MAX_SEED:
            raise _out_of_range("seed", self.seed, "a whole number from 0 to 2^64-1")
        for key in sorted(self.refuse_to_load):
            if not is_routing_key(key):
                raise _out_of_range("refuse_to_load", key, "routing keys, e.g. fraud.v1")


class Draws:
    """The random draws of one behaviour, in the order of requests.

    Latencies and errors have separate sequences, so changing one setting does not affect the other's draws.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self._cold_left = 0
        self.restart(behaviour)

    def restart(self, behaviour: Behaviour) -> None:
        """Restarts both sequences."""
        self.apply(behaviour)
        self._latency_random = Random(f"latency {behaviour.seed}")  # noqa: S311 (not security-relevant)
        self._error_random = Random(f"error {behaviour.seed}")  # noqa: S311 (not security-relevant)

    def service_ms(self, others: int) -> float:
        """Service time of the next request, ms, while ``others`` are in flight."""
        ms = self._latency.draw_ms(self._latency_random, others)
        if self._cold_left:
            ms += self._cold_ms * self._cold_left / self._cold_requests
            self._cold_left -= 1
        return ms

    def start_cold(self) -> None:
        """Makes the next requests cold."""
        self._cold_left = self._cold_requests

    def fails(self) -> bool:
        """Draws whether the next request fails."""
        return self._error_rate > 0 and self._error_random.random() < self._error_rate

    def apply(self, behaviour: Behaviour) -> None:
        """Applies other settings without restarting the sequences."""
        self._latency, self._error_rate = behaviour.latency, behaviour.error_rate
        self._cold_ms, self._cold_requests = behaviour.cold_ms, behaviour.cold_requests
        self._cold_left = min(self._cold_left, self._cold_requests)


class LiveBehaviour:
    """The behaviour in force, and its draws; both may change while the stub runs.

    Attributes:
        draws: for requests.
        copy_draws: for shadow copies, so that copies do not affect what requests draw.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.draws, self.copy_draws = Draws(behaviour), Draws(behaviour)

    def start_cold(self) -> None:
        """Makes the next requests cold."""
        self.draws.start_cold()
        self.copy_draws.start_cold()

    def change(self, **changes: Any) -> Behaviour:
        """Replaces the named settings and returns the result; naming the seed restarts the draws.

        Raises:
            InputError: a value is out of range; nothing was changed.
        """
        self.behaviour = replace(self.behaviour, **changes)
        for draws in (self.draws, self.copy_draws):
            if "seed" in changes:
                draws.restart(self.behaviour)
            else:
                draws.apply(self.behaviour)
        return self.behaviour
