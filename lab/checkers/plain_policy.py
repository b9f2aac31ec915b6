"""A second reading of what a route table says about attempts and tenants; shares no code with ``lab.routing``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

FALLS_BACK = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN"})
"""Statuses after which the next fallback is tried; a refusal, a tear or the end of the time is final."""


class Ejection(NamedTuple):
    """When a replica that fails is ejected.

    Attributes:
        errors: failures in a row.
        for_s: for how long, seconds.
        at_most: percent of a version's replicas.
    """

    errors: int
    for_s: float
    at_most: int


_SETTINGS = ("retries", "hedge", "outliers", "breaker", "health")


class Policy(NamedTuple):
    """The attempts that a table allows at one model version.

    Attributes:
        attempts: most attempts at the version.
        on: gRPC statuses after which there may be another one.
        per_try_s: time limit of one attempt, seconds; 0 for none.
        backoff_s: the longest pause before the first retry, seconds; it doubles with each further one.
        hedge_after_s: a second attempt may start beside a first that takes so long, seconds; None if there is no hedge.
        share: extra attempts in flight, of all attempts in flight, at most, 0 to 1.
        at_least: extra attempts in flight that are always allowed.
        bound: most attempts in flight at a version, of one limiter; 0 for no bound.
        ejection: of replicas; None if there is none.
        checks_health: whether replicas that fail health checks are ejected.
        out_s: how long they may leave a replica out after it is well, seconds.
        may_queue: whether there are bounds on connections or waiting requests.
    """

    attempts: int = 1
    on: frozenset[str] = frozenset()
    per_try_s: float = 0.0
    backoff_s: float = 0.0
    hedge_after_s: float | None = None
    share: float = 0.0
    at_least: int = 0
    bound: int = 0
    ejection: Ejection | None = None
    checks_health: bool = False
    out_s: float = 0.0
    may_queue: bool = False

    @property
    def may_take_out(self) -> bool:
        """Whether a proxy may leave a replica alone that others know to be well."""
        return self.checks_health or self.ejection is not None

    def may_take_out_all(self, replicas: int) -> bool:
        """Whether it may leave all replicas of a version out. Envoy ejects while fewer than ``at_most`` percent are."""
        spares = self.ejection is None or (replicas > 1 and self.ejection.at_most * replicas <= 100 * (replicas - 1))
        return self.checks_health or not spares

    @property
    def may_refuse(self) -> bool:
        """Whether a proxy may fail an attempt before it reaches a replica."""
        return bool(self.bound) or self.may_queue or self.may_take_out


def policy_of(document: Mapping[str, Any], use_case: str, version: str) -> Policy:
    """Returns the policy of a use case's attempts at a version (``cw-ranker@v2``).

    A request that is pinned to a version follows the policy of the use case which that version may answer.
    """
    others = (entry for entry in document["use_cases"].values() if version in _answering(entry))
    entries = (document["use_cases"].get(use_case, {}), *others)
    entry = next((each for each in entries if any(name in each for name in _SETTINGS)), None)
    if entry is None:
        return Policy()
    retries, hedge = entry.get("retries"), entry.get("hedge")
    extra = hedge if retries is None else retries
    breaker, health = entry.get("breaker", {}), {"every": "1s", **entry["health"]} if "health" in entry else None
    ejection = _ejection(entry["outliers"]) if "outliers" in entry else None
    policy = Policy(
        bound=breaker.get("requests", 0),
        ejection=ejection,
        checks_health=health is not None,
        out_s=max(ejection.for_s if ejection else 0.0, 2 * seconds_of(health["every"]) if health else 0.0),
        may_queue=not breaker.keys() <= {"requests"},
    )
    if extra is None:
        return policy
    budget = extra.get("budget", 20)
    statuses = () if retries is None else retries.get("on", ["unavailable"])
    return policy._replace(
        attempts=2 if retries is None else retries.get("attempts", 2),
        on=frozenset(status.upper().replace("-", "_") for status in statuses),
        per_try_s=0.0 if retries is None or "per_try" not in retries else seconds_of(retries["per_try"]),
        backoff_s=0.0 if retries is None else seconds_of(retries.get("backoff", "25ms")),
        hedge_after_s=None if hedge is None else seconds_of(hedge["after"]),
        share=budget / (100 + budget),
        at_least=extra.get("at_least", 0),
    )


def _ejection(outliers: Mapping[str, Any]) -> Ejection:
    return Ejection(outliers.get("errors", 5), seconds_of(outliers.get("eject", "10s")), outliers.get("at_most", 50))


def _answering(entry: Mapping[str, Any]) -> Iterator[str]:
    yield entry["default"]
    yield from entry.get("fallback", ())
    for rule in entry.get("rules", ()):
        if "use" in rule:
            yield rule["use"]
        yield from rule.get("split", {}).get("weights", ())
        yield from (cell["use"] for cell in rule.get("experiment", {}).get("cells", {}).values())


class Quota(NamedTuple):
    """What one tenant may use, all limiters together.

    Attributes:
        entry: name of the table's entry.
        account: whose requests count together.
        rate: requests per second; None for no limit.
        burst: requests at once, each limiter's share rounded up.
        concurrent: requests in flight, likewise; None for no limit.
        callers: who may name the tenant; empty for all.
    """

    entry: str
    account: str
    rate: float | None
    burst: int
    concurrent: int | None
    callers: frozenset[str]


def quota_of(document: Mapping[str, Any], tenant: str, *, limiters: int, proves_callers: bool) -> Quota | None:
    """Returns the quota of one caller's requests for a tenant; None if the table does not limit them.

    Args:
        document: the route table.
        tenant: of the requests.
        limiters: number of units among which the limits are divided; each rounds its share up.
        proves_callers: whether the limiter knows the caller: then the tenants without an entry share its one quota.
    """
    tenants = document.get("tenants", {})
    entry = tenant if tenant in tenants and tenant != "default" else "default"
    if entry not in tenants:
        return None
    limit = tenants[entry]
    account = tenant if entry == tenant or not proves_callers else "tenants without an entry"
    rate, concurrent = limit.get("rate"), limit.get("concurrent")
    burst = limit.get("burst", 1 if rate is None else math.ceil(rate))
    return Quota(
        entry,
        account,
        rate,
        _rounded_up(burst, limiters),
        None if concurrent is None else _rounded_up(concurrent, limiters),
        frozenset(limit.get("callers", ())),
    )


def _rounded_up(whole: int, parts: int) -> int:
    return parts * math.ceil(whole / parts)


def seconds_of(duration: str) -> float:
    """Returns a duration of the table, ``250ms`` or ``2s``, in seconds."""
    number = duration.rstrip("ms")
    return float(number) / (1000 if duration.endswith("ms") else 1)
