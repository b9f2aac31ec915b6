"""What is in force: a route table for all callers, and perhaps a staged one for some of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import PublishError
from lab.routing.difference import difference
from lab.routing.rules import shown
from lab.routing.uses import keys_named

if TYPE_CHECKING:
    from lab.routing.document import RouteTable


@dataclass(frozen=True, slots=True)
class Stage:
    """A revision that is in force for a set of callers, in the place of the one for all.

    Attributes:
        callers: the set.
        revision: the latest that staged this table, for this set.
        table: its route table.
    """

    callers: frozenset[str]
    revision: int
    table: RouteTable

    def __str__(self) -> str:
        return f"revision {self.revision}, staged for {', '.join(sorted(self.callers))}"


@dataclass(frozen=True, slots=True)
class InForce:
    """The revision for all callers, 0 before the first; and the stage, if there is one."""

    revision: int
    table: RouteTable
    stage: Stage | None = None

    @property
    def tables(self) -> tuple[RouteTable, ...]:
        """All that are in force, the latest last."""
        return (self.table, self.stage.table) if self.stage else (self.table,)

    @property
    def latest(self) -> int:
        """The latest revision that is in force for anyone."""
        return self.stage.revision if self.stage else self.revision

    def of(self, caller: str) -> tuple[int, RouteTable]:
        """Revision and table for a caller; those for all if the caller is empty."""
        if self.stage and caller in self.stage.callers:
            return self.stage.revision, self.stage.table
        return self.revision, self.table

    def with_all(self, other: InForce) -> tuple[RouteTable, ...]:
        """These tables, and then those of another state that are not among them."""
        return (*self.tables, *without(other.tables, self.tables))

    def followed_by(self, revision: int, table: RouteTable, callers: Iterable[str]) -> InForce:
        """The state after a publish: to these callers besides those of the stage, or to all if there are none."""
        if not callers:
            return InForce(revision, table)
        if self.stage is None:
            return InForce(self.revision, self.table, Stage(frozenset(callers), revision, table))
        wider = Stage(self.stage.callers.union(callers), revision, self.stage.table)
        return InForce(self.revision, self.table, wider)

    def require_stageable(self, table: RouteTable, callers: Collection[str], known: Iterable[str]) -> None:
        """Raises if this table cannot be staged.

        Args:
            table: derived from the one for all.
            callers: for whom.
            known: the callers of the tables in force.

        Raises:
            PublishError: says why, and what to do instead.
        """
        if not self.revision:
            raise PublishError("nothing is in force yet: publish to all callers first")
        if self.stage and self.stage.table.document != table.document:
            raise PublishError(f"{self.stage}, is another table: publish that to all, or roll it back, first")
        use_cases = table.document["use_cases"]
        changed = difference(self.table, table).use_cases & use_cases.keys()
        may_call = set(known).union(*(use_cases[name]["callers"] for name in changed))
        if unknown := sorted(set(callers) - may_call):
            listed = ", ".join(sorted(may_call))
            raise PublishError(f"no use case allows caller {shown(unknown[0])}: write some of {listed}")
        if what := next(_changed_for_all(self.table, table), ""):
            raise PublishError(f"{what} is the same for all callers, and differs: publish that change to all first")


def _changed_for_all(before: RouteTable, after: RouteTable) -> Iterator[str]:
    """Yields what differs and cannot be staged, as proxies and gateways hold it once for all callers."""
    change = difference(before, after)
    for key in sorted(change.routing_keys & before.versions.keys() & after.versions.keys()):
        here, there = before.versions[key], after.versions[key]
        if (here.cluster, here.failover) != (there.cluster, there.failover):
            yield f"the cluster of {here.model}@{here.version}"
    if before.document.get("tenants") != after.document.get("tenants"):
        yield "the section tenants"
    old, new = before.document["use_cases"], after.document["use_cases"]
    for name in sorted(change.use_cases & old.keys() & new.keys()):
        if old[name]["api"] != new[name]["api"]:
            yield f"the api of {name}"
    documents = (its.get(name) for its in (old, new) for name in change.use_cases)
    for key in sorted({key for each in documents if each for key in keys_named(each)}):
        if before.agreements.differs(after.agreements, key):
            yield f"the resilience policy of {key}"


def without(tables: Iterable[RouteTable], others: Iterable[RouteTable]) -> list[RouteTable]:
    """Those tables that are not, as objects, among others."""
    known = set(map(id, others))
    return [each for each in tables if id(each) not in known]
