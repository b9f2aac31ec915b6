"""What differs between two route tables, at the cost of the difference where one table was derived from the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Difference(NamedTuple):
    """Names of the entries that may differ: changed, new and removed ones."""

    use_cases: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    clusters: frozenset[str] = frozenset()
    routing_keys: frozenset[str] = frozenset()

    def __or__(self, other: Difference) -> Difference:
        return Difference(*(mine | its for mine, its in zip(self, other, strict=True)))


class Table(Protocol):
    """What is compared of a route table, see :class:`lab.routing.document.RouteTable`."""

    @property
    def document(self) -> Mapping[str, Any]: ...  # noqa: D102 (as there)
    @property
    def versions(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def derivation(self) -> Derivation | None: ...  # noqa: D102


class Derivation(NamedTuple):
    """How a table was derived: the document of the table before, and what differs from that."""

    base: Mapping[str, Any]
    difference: Difference


def difference(before: Table, after: Table) -> Difference:
    """What may differ between two tables; they are compared entry by entry only if they have no common base."""
    one, other = before.derivation, after.derivation
    if before.document is after.document:
        return Difference()
    if other is not None and other.base is before.document:
        return other.difference
    if one is not None and one.base is after.document:
        return one.difference
    if one is not None and other is not None and one.base is other.base:
        return one.difference | other.difference
    use_cases, models, clusters = (
        _names(before.document.get(section, {}), after.document.get(section, {}))
        for section in ("use_cases", "models", "clusters")
    )
    return Difference(use_cases, models, clusters, _names(before.versions, after.versions))


def changed_entries(entries: Mapping[str, T], before: Mapping[str, T]) -> dict[str, T]:
    """New and changed entries; those that both tables share (``is``) are not compared."""
    if entries is before:
        return {}
    get = before.get
    return {name: entry for name, entry in entries.items() if (old := get(name)) is not entry and not same(old, entry)}


def same(one: object, other: object) -> bool:
    """Whether two entries are literally the same: ``1`` and ``True`` are equal in Python but not to a model."""
    return one is other or (one == other and repr(one) == repr(other))


def _names(before: Mapping[str, Any], after: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(changed_entries(after, before)) | (before.keys() - after.keys())
