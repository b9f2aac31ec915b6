"""Who uses which model version, as a table's use cases say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.routing.checks import references
from lab.routing.durations import seconds
from lab.routing.keys import routing_key, version_key

if TYPE_CHECKING:
    from lab.routing.document import RouteTable
    from lab.routing.resilience import Policy


class Grant(NamedTuple):
    """What a model version may be used for.

    Attributes:
        callers: that may use it: those of the use cases that name it, and those that may pin requests.
        apis: inference APIs of these use cases; empty if none names it.
    """

    callers: frozenset[str] = frozenset()
    apis: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Count:
    """Callers and APIs of the use cases that name something, and how many of these use cases have each."""

    callers: Counter[str] = field(default_factory=Counter)
    apis: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Changed:
    """What differs after use cases were added and removed.

    Attributes:
        keys: routing keys that other callers or APIs use.
        models: the same of models, which is for the versions that no use case names.
        callers: those who use other keys.
        pins: whether other callers may pin requests, which changes every grant.
    """

    keys: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    callers: set[str] = field(default_factory=set)
    pins: bool = False


class Uses:
    """Use cases, counted: to add or remove one costs what it names, however many there are.

    Args:
        use_cases: valid entries of a route table.

    Attributes:
        pins: callers that may pin requests to any version, and how many use cases allow it.
    """

    def __init__(self, use_cases: Iterable[Mapping[str, Any]] = ()) -> None:
        self._changed = Changed()
        self.pins: Counter[str] = Counter()
        self._callers: Counter[str] = Counter()
        self._timeouts: Counter[str] = Counter()
        self._keys: defaultdict[str, _Count] = defaultdict(_Count)
        self._models: defaultdict[str, _Count] = defaultdict(_Count)
        self._keys_of: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for use_case in use_cases:
            self.add(use_case)

    def add(self, use_case: Mapping[str, Any]) -> None:
        """Adds a use case."""
        self._count(use_case, 1)

    def remove(self, use_case: Mapping[str, Any]) -> None:
        """Removes a use case that was added."""
        self._count(use_case, -1)

    def take_changed(self) -> Changed:
        """What changed since the last call."""
        changed, self._changed = self._changed, Changed()
        return changed

    def grant(self, model: str, version: str) -> Grant:
        """The grant of a model version.

        A version that no use case names has the grant of its model's other versions: the next table may name it, and
        its replicas need not be asked again.
        """
        found = self._keys.get(routing_key(model, version)) or self._models.get(model) or _Count()
        return Grant(frozenset(found.callers) | self.pins.keys(), frozenset(found.apis))

    def keys_of(self, caller: str) -> frozenset[str]:
        """Routing keys, without shards, that a caller's use cases name; one that may pin requests may use all."""
        return frozenset(self._keys_of.get(caller, ()))

    @property
    def callers(self) -> frozenset[str]:
        """All callers that some use case allows, or allows to pin requests."""
        return frozenset(self._callers) | self.pins.keys()

    @property
    def longest_timeout_s(self) -> float:
        """The longest timeout of a use case, seconds; 0 if there is none."""
        return max(map(seconds, self._timeouts), default=0.0)

    def _count(self, use_case: Mapping[str, Any], by: int) -> None:
        callers, pins = set(use_case["callers"]), set(use_case.get("override", ()))
        if _add(self.pins, pins, by):
            self._changed.pins = True
        _add(self._callers, callers, by)
        _add(self._timeouts, (use_case["timeout"],), by)
        for reference in {reference for _, reference in references((), use_case)}:
            model, version = reference.split("@", 1)
            key = routing_key(model, version)
            for changed, name, counts in (
                (self._changed.keys, key, self._keys),
                (self._changed.models, model, self._models),
            ):
                count = counts[name]
                if _add(count.callers, callers, by) | _add(count.apis, (use_case["api"],), by):
                    changed.add(name)
                if not count.apis:
                    del counts[name]
            for caller in callers:
                if _add(self._keys_of[caller], (key,), by):
                    self._changed.callers.add(caller)


def _add(counter: Counter[str], names: Iterable[str], by: int) -> bool:
    """Counts names up or down; returns whether one came or went."""
    any_changed = False
    for name in names:
        before = counter[name]
        if before + by:
            counter[name] = before + by
        else:
            del counter[name]
        any_changed = any_changed or not before or not before + by
    return any_changed


def keys_named(use_case: Mapping[str, Any]) -> set[str]:
    """Routing keys, without shards, of all versions that a use case names."""
    return {reference.replace("@", ".") for _, reference in references((), use_case)}


def grants_of(table: RouteTable) -> dict[str, Grant]:
    """Routing key → grant, as the use cases' rules, defaults, fallbacks and shadows need it."""
    uses = Uses(table.document["use_cases"].values())
    return {key: uses.grant(each.model, each.version) for key, each in table.versions.items()}


def keys_for(caller: str, table: RouteTable) -> frozenset[str]:
    """Routing keys of all versions that a decision for this caller may name: first choices, fallbacks and shadows."""
    uses = Uses(table.document["use_cases"].values())
    return frozenset(table.versions if caller in uses.pins else keys_in(table, uses.keys_of(caller)))


def keys_in(table: RouteTable, names: Container[str]) -> list[str]:
    """The table's routing keys of some versions, which are given as routing keys without shards."""
    return [key for key in table.versions if version_key(key) in names]


def policies_of(table: RouteTable) -> dict[str, Policy]:
    """Routing key → policy, for versions that may answer a use case with resilience settings."""
    found = ((key, table.agreements.policy(key)) for key in table.versions)
    return {key: policy for key, policy in found if policy is not None}
