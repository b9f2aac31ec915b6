"""Leases: which decisions may be reused, for whom, until when. No I/O and no clock: times are handed in, in seconds."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.decisions import ResolvedDecision

CAPACITY = 10_000

LeaseKey = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lease:
    """A decision that may be reused.

    Attributes:
        decision: as the resolver gave it.
        fresh_until: from then on the resolver is asked again.
        usable_until: until then it serves if the resolver cannot be reached.
    """

    decision: ResolvedDecision
    fresh_until: float
    usable_until: float


def lease_key(use_case: str, reads: tuple[str, ...], context: Mapping[str, str]) -> LeaseKey:
    """What requests have in common that get the same decision: the use case, and the values that its rules read."""
    return (use_case, *[context.get(field, "") for field in reads])


class Leases:
    """All leases of one client. They all stand under one revision: a new one ends those before.

    Args:
        capacity: leases held at once; beyond it the one that was used longest ago goes.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._revision = 0
        self._reads: dict[str, tuple[str, ...]] = {}
        self._leases: OrderedDict[LeaseKey, Lease] = OrderedDict()

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def revision(self) -> int:
        """Under which every lease stands; 0 at first."""
        return self._revision

    def key(self, use_case: str, context: Mapping[str, str]) -> LeaseKey | None:
        """Key of the lease that would hold for a request; None as long as nobody has said what the rules read."""
        reads = self._reads.get(use_case)
        return None if reads is None else lease_key(use_case, reads, context)

    def find(self, key: LeaseKey | None) -> Lease | None:
        """The lease with this key, however old."""
        if key is None or (lease := self._leases.get(key)) is None:
            return None
        self._leases.move_to_end(key)
        return lease

    def grant(self, use_case: str, context: Mapping[str, str], decision: ResolvedDecision, *, now: float) -> bool:
        """Keeps a decision for requests like this one; a newer one ends the leases of revisions before.

        Returns:
            False if a newer revision is known already: the decision was overtaken on its way and is not kept.
        """
        if decision.revision < self._revision:
            return False
        self.advance(decision.revision)
        if self._reads.get(use_case) != decision.reads:
            self._forget_use_case(use_case)
            self._reads[use_case] = decision.reads
        key = lease_key(use_case, decision.reads, context)
        self._leases[key] = Lease(decision, now + decision.ttl_s, now + max(decision.ttl_s, decision.max_stale_s))
        self._leases.move_to_end(key)
        if len(self._leases) > self._capacity:
            self._leases.popitem(last=False)
        return True

    def advance(self, revision: int) -> None:
        """A revision is in force: leases of those before end."""
        if revision > self._revision:
            self.follow(revision)

    def follow(self, revision: int) -> None:
        """A resolver that was just reached names its revision: leases of any other end, even if it is an older one."""
        if revision != self._revision:
            self._revision = revision
            self._leases.clear()

    def drop(self, key: LeaseKey | None) -> None:
        """Ends one lease."""
        if key is not None:
            self._leases.pop(key, None)

    def _forget_use_case(self, use_case: str) -> None:
        for key in [key for key in self._leases if key[0] == use_case]:
            del self._leases[key]
