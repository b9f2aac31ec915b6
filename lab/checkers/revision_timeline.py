"""Finds the revisions that were in force while a request was in flight, and what their rules expect of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from operator import attrgetter
from typing import Any, NamedTuple

from lab.checkers.draws import Draw, draws_of, marked
from lab.checkers.plain import (
    Expected,
    cluster_of_shard,
    decide,
    fallbacks,
    fields_read,
    parameters_of,
    passed,
    shadow_of,
    shard_of,
)
from lab.checkers.plain_policy import Policy, Quota, policy_of, quota_of, seconds_of
from lab.history import UNSENT, Record

_CONTEXT_FIELDS = (
    *("user_id", "device", "country", "segment", "surface", "caller", "tenant", "traffic_origin"),
    "override",
)
_values_of_context = attrgetter(*_CONTEXT_FIELDS)
_FOREVER = 1 << 63

# A node acknowledges a revision on its main thread; Envoy's workers, and requests in flight there, switch a moment
# later.
SETTLING_NS = 100_000_000
"""Time after a revision has converged in which an answer by the one before is right."""


@dataclass(frozen=True, slots=True)
class RevisionInForce:
    """One revision, and the time in which an answer by its rules is right.

    That time begins when the first node may use the revision, and ends when the last node has acknowledged its
    successor. So during a publish both revisions are in force.

    Attributes:
        document: the route table, as published.
        from_ns: Unix nanoseconds.
        until_ns: Unix nanoseconds; None while no successor has converged.
        converged_ns: when the last node acknowledged this revision, Unix nanoseconds; None if it never converged.
        kept: the route table, as the control plane kept it; None if the published text is not known, and ``document``
            is what it kept.
        callers: for whom it is in force; empty for all.
    """

    revision: int
    document: Mapping[str, Any]
    from_ns: int
    until_ns: int | None = None
    converged_ns: int | None = None
    kept: Mapping[str, Any] | None = None
    callers: frozenset[str] = frozenset()

    def is_for(self, caller: str) -> bool:
        """Returns whether it is in force for this caller, unless a staged one is in its place."""
        return not self.callers or caller in self.callers


class Decision(NamedTuple):
    """What a caller learns of a decision, as far as it follows from rules. Clusters are not part of it."""

    status: str
    version: str
    alternatives: tuple[str, ...]
    shadow: Any
    timeout: str
    parameters: Mapping[str, Any]


class Rules:
    """One revision's rules, applied to records. Results are cached by the fields that they depend on."""

    def __init__(self, revision: RevisionInForce) -> None:
        self.revision = revision
        self._document = revision.document
        self._reads: dict[str, tuple[str, ...]] = {}
        self._units: dict[str, Callable[[Record], tuple[str, ...]]] = {}
        self._expected: dict[tuple[str, ...], Expected] = {}
        self._fallbacks: dict[tuple[str, ...], tuple[Expected, ...]] = {}
        self._versions: dict[tuple[str, ...], Mapping[str, str]] = {}
        self._decisions: dict[tuple[str, ...], Decision] = {}
        self._drawn_by: dict[tuple[str, ...], Draw | None] = {}
        self._policies: dict[tuple[str, str], Policy] = {}
        self._timeouts_ns: dict[str, int] = {}
        self._places: dict[tuple[str, ...], tuple[str, ...]] = {}

    # Lazy: of hundreds of revisions with thousands of use cases each, few are needed.
    @cached_property
    def _marked(self) -> dict[str, Any]:
        return marked(self._document)

    @cached_property
    def _draws(self) -> dict[str, dict[str, Draw]]:
        return draws_of(self._document)

    @property
    def number(self) -> int:
        """The revision's number."""
        return self.revision.revision

    @property
    def failed(self) -> bool:
        """Whether its publish failed and was rolled back."""
        return self.revision.converged_ns is None and self.revision.until_ns is not None

    def ended_before(self, time_ns: int) -> bool:
        """Whether it was no longer in force at this time."""
        return self.revision.until_ns is not None and self.revision.until_ns < time_ns

    def runs(self, record: Record, shard: str) -> bool:
        """Whether its table has the version that answered, or a shard of it, in the answer's cluster or its failover's.

        Args:
            record: of an answer by a model.
            shard: that the request was for, by this revision or by another one; empty for none.
        """
        home = self.home(record.model, record.version, shard)
        return bool(home) and record.cluster in {home, self._failover(home)}

    def answer(self, record: Record) -> Expected:
        """Returns the version and cluster that answered. A failover cluster counts as the version's own."""
        shard = self.shard(record)
        home = self.home(record.model, record.version, shard)
        failed_over = record.cluster == self._failover(home)
        return Expected("OK", record.model, record.version, home if failed_over else record.cluster, shard)

    def config(self, model: str, version: str) -> Mapping[str, Any]:
        """Returns a version's own config."""
        entry = self._document["models"].get(model, {"versions": {}})["versions"].get(version, {})
        return dict(entry.get("config", {}))

    def api(self, use_case: str) -> str:
        """Returns the API of a use case; empty if the table does not have it."""
        return str(self._document["use_cases"].get(use_case, {}).get("api", ""))

    def home(self, model: str, version: str, shard: str = "") -> str:
        """Returns the cluster that the table gives a version, or a shard of it; empty if it does not have that."""
        return cluster_of_shard(self._where(model, version), shard)

    def shard(self, record: Record) -> str:
        """Returns the shard of the version that answered which the table gives a request; empty if it has none."""
        return shard_of(self._where(record.model, record.version), context_of(record))

    def _where(self, model: str, version: str) -> str | Mapping[str, Any]:
        entry = self._document["models"].get(model, {"versions": {}})["versions"].get(version, {})
        where: str | Mapping[str, Any] = entry.get("cluster", "")
        return where

    def _failover(self, cluster: str) -> str:
        return str(self._document.get("clusters", {}).get(cluster, {}).get("failover", cluster))

    @cached_property
    def has_failover(self) -> bool:
        """Whether any cluster has one that takes over from it."""
        return any("failover" in cluster for cluster in self._document.get("clusters", {}).values())

    def failover(self, cluster: str) -> str:
        """Returns the cluster that takes over from this one; empty if none does."""
        return str(self._document.get("clusters", {}).get(cluster, {}).get("failover", ""))

    @cached_property
    def clusters(self) -> frozenset[str]:
        """The model clusters of its table."""
        versions = (each for model in self._document["models"].values() for each in model["versions"].values())
        placed = (each.get("cluster", "") for each in versions)
        shards = (each for where in placed for each in ([where] if isinstance(where, str) else where["shards"]))
        return frozenset((*self._document.get("clusters", ()), *shards))

    @cached_property
    def settings(self) -> frozenset[str]:
        """What its use cases say, such as ``breaker``: names that none of them has need not be looked for."""
        return frozenset(name for use_case in self._document["use_cases"].values() for name in use_case)

    def replicas(self, cluster: str) -> int:
        """Returns how many replicas the table gives a cluster; one if it does not say."""
        return int(self._document.get("clusters", {}).get(cluster, {}).get("replicas", 1))

    def limits(self, record: Record) -> frozenset[str]:
        """Returns what is limited: ``rate`` and ``concurrent`` of the request's tenant, ``breaker`` of its models."""
        tenants = self._document.get("tenants", {})
        limits = tenants.get(record.tenant, tenants.get("default", {}))
        use_case = self._document["use_cases"].get(record.use_case, {})
        return frozenset({"rate", "concurrent"} & limits.keys() | {"breaker"} & use_case.keys())

    def timeout_ns(self, use_case: str) -> int:
        """Returns the timeout of a use case, nanoseconds; 0 if the table does not have it."""
        found = self._timeouts_ns.get(use_case)
        if found is None:
            entry = self._document["use_cases"].get(use_case)
            found = self._timeouts_ns[use_case] = 0 if entry is None else round(seconds_of(entry["timeout"]) * 1e9)
        return found

    def policy(self, record: Record) -> Policy:
        """Returns the policy of a request's attempts."""
        unit = (record.use_case, record.override)
        found = self._policies.get(unit)
        if found is None:
            version = record.override or self._document["use_cases"].get(record.use_case, {}).get("default", "")
            found = self._policies[unit] = policy_of(self._document, record.use_case, version)
        return found

    def quota(self, tenant: str, *, limiters: int, proves_callers: bool) -> Quota | None:
        """Returns the quota of one caller's requests for a tenant; None if it has none."""
        return quota_of(self._document, tenant, limiters=limiters, proves_callers=proves_callers)

    def reads(self, use_case: str) -> tuple[str, ...]:
        """Returns the context fields on which the decision depends."""
        fields = self._reads.get(use_case)
        if fields is None:
            fields = self._reads[use_case] = tuple(fields_read(self._document, use_case))
        return fields

    def unit(self, record: Record) -> tuple[str, ...]:
        """Returns use case and values of the fields that rules read: requests with equal ones get equal decisions."""
        values = self._units.get(record.use_case)
        if values is None:
            values = self._units[record.use_case] = attrgetter("use_case", *self.reads(record.use_case))
        return values(record)

    def expected(self, record: Record) -> Expected:
        """Returns the version and cluster that must answer, or the status of the refusal."""
        unit = self.unit(record)
        expected = self._expected.get(unit)
        if expected is None:
            expected = self._expected[unit] = decide(self._document, record.use_case, context_of(record))
        return expected

    def fallbacks(self, record: Record) -> tuple[Expected, ...]:
        """Returns the fallbacks, in order."""
        unit = self.unit(record)
        found = self._fallbacks.get(unit)
        if found is None:
            found = self._fallbacks[unit] = fallbacks(self._document, record.use_case, context_of(record))
        return found

    def versions(self, record: Record) -> Mapping[str, str]:
        """Returns the cluster of each version that a request may reach, in order, by routing key; none if refused."""
        unit = self.unit(record)
        found = self._versions.get(unit)
        if found is None:
            chosen = self.expected(record)
            may_reach = (chosen, *self.fallbacks(record)) if chosen.status == "OK" else ()
            found = self._versions[unit] = {each.routing_key: each.cluster for each in may_reach}
        return found

    def places(self, record: Record) -> tuple[str, ...]:
        """Returns the places of the rules that a request passes, see :func:`lab.checkers.plain.passed`."""
        unit = self.unit(record)
        found = self._places.get(unit)
        if found is None:
            found = self._places[unit] = tuple(passed(self._document, record.use_case, context_of(record)))
        return found

    def shadow(self, record: Record) -> str:
        """Returns the routing key of the model version that must get a copy; empty if none must."""
        if "shadow" not in self._document["use_cases"].get(record.use_case, ()):
            return ""
        return shadow_of(self._document, record.use_case, context_of(record), record.request_id)

    def shadow_percent(self, use_case: str) -> int:
        """Returns the percentage of requests that the shadow samples."""
        return int(self._document["use_cases"].get(use_case, {}).get("shadow", {}).get("percent", 0))

    def decision(self, record: Record) -> Decision:
        """Returns the decision that the caller must get."""
        unit = self.unit(record)
        decision = self._decisions.get(unit)
        if decision is None:
            expected = self.expected(record)
            entry = self._document["use_cases"].get(record.use_case, {})
            allowed = expected.status == "OK"
            decision = self._decisions[unit] = Decision(
                expected.status,
                _with_shard(expected),
                tuple(map(_with_shard, self.fallbacks(record))),
                entry.get("shadow") if allowed and not record.override else None,
                entry.get("timeout", ""),
                parameters_of(self._document, record.use_case, context_of(record)) if allowed else {},
            )
        return decision

    def draw(self, record: Record) -> Draw | None:
        """Returns the split or experiment that decides this request; None if none does."""
        if record.override or not self._draws.get(record.use_case):
            return None
        unit = self.unit(record)
        if unit not in self._drawn_by:
            rule = decide(self._marked, record.use_case, context_of(record))
            self._drawn_by[unit] = self._draws[record.use_case].get(rule.version)
        return self._drawn_by[unit]


class RevisionTimeline:
    """All revisions of a run, by the time in which they were in force.

    Attributes:
        rules: of each revision, in order of time.
        has_stages: whether callers differ in the revisions that are in force for them.
    """

    def __init__(self, revisions: Iterable[RevisionInForce]) -> None:
        self._of_callers: dict[str, RevisionTimeline] = {}
        in_order = sorted(revisions, key=lambda one: (one.from_ns, one.revision))
        self.rules: Sequence[Rules] = [Rules(one) for one in in_order]
        self._from = [one.from_ns for one in in_order]
        self._until = [_FOREVER if one.until_ns is None else one.until_ns for one in in_order]
        # Latest end so far: all revisions before the first whose value reaches a moment had ended by then.
        self._latest_until = list(accumulate(self._until, max))
        self.has_stages = any(one.callers for one in in_order)

    def of(self, caller: str) -> RevisionTimeline:
        """Returns the time line of one caller: for it, a staged revision ends the one for all."""
        if not self.has_stages:
            return self
        found = self._of_callers.get(caller)
        if found is None:
            own = [each.revision for each in self.rules if each.revision.is_for(caller)]
            found = self._of_callers[caller] = RevisionTimeline(_ended_by_stages(own))
            found.has_stages = False
        return found

    def numbered(self, caller: str) -> dict[int, Rules]:
        """Returns all revisions by number, those of one caller with the time in which they were in force for it."""
        return {each.number: each for each in (*self.rules, *self.of(caller).rules)}

    def during(self, record: Record) -> list[Rules]:
        """Returns the revisions in force for a request's caller at any time between sending and answer.

        There are none for a request that was never sent.
        """
        if self.has_stages:
            return self.of(record.caller).during(record)
        if record.status == UNSENT:
            return []
        first = bisect_left(self._latest_until, record.sent_ns)
        end = bisect_right(self._from, record.done_ns)
        if end - first <= 1:  # the first had not ended, by the definition of the latest end
            return list(self.rules[first:end])
        return [self.rules[place] for place in range(first, end) if self._until[place] >= record.sent_ns]

    def alone(self, record: Record) -> Rules | None:
        """Returns the only revision in force between sending and answer; None if there were several, or none."""
        found = self.during(record)
        return found[0] if len(found) == 1 else None


def _ended_by_stages(revisions: Sequence[RevisionInForce]) -> Iterator[RevisionInForce]:
    """Yields one caller's revisions, in order; those for all end when the first that is staged after them has settled.

    A later revision for all ends both, and what was staged is not in force again.
    """
    for place, each in enumerate(revisions):
        later = revisions[place + 1 :]
        ends = [one.converged_ns + SETTLING_NS for one in later if one.callers and one.converged_ns is not None]
        if each.callers or not ends or (each.until_ns is not None and each.until_ns <= ends[0]):
            yield each
        else:
            yield replace(each, until_ns=ends[0])


def context_of(record: Record) -> dict[str, str]:
    """Returns the request context, as rules read it."""
    return dict(zip(_CONTEXT_FIELDS, _values_of_context(record), strict=True))


def by_model(record: Record) -> bool:
    """Whether a model answered: the chosen version or a fallback, and not the caller by its own default."""
    return record.status == "OK" and record.source in {"model", "fallback"}


def by_chosen_model(record: Record) -> bool:
    """Whether the chosen model version answered, rather than a fallback."""
    return record.status == "OK" and record.source == "model"


def reference(answer: Record | Expected) -> str:
    """Returns the model version that answered, or must: ``cw-ranker@v2``."""
    return f"{answer.model}@{answer.version}"


def _with_shard(expected: Expected) -> str:
    return f"{reference(expected)}{expected.shard and f' shard {expected.shard}'}"


def request(record: Record) -> str:
    """Returns a request in words."""
    return f"request #{record.sequence} ({record.request_id})"
