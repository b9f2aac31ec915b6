"""What checkers judge: the records of a run, what was planned, and which route tables were in force when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.history import Record


@dataclass(frozen=True, slots=True)
class RevisionInForce:
    """One revision, and the time in which an answer by its rules is right.

    That time begins at the first moment at which any node might use it, and ends when the last node has acknowledged
    its successor; so while a revision goes out, both it and the one before are in force.

    Attributes:
        document: the route table, as it was published.
        from_ns: Unix nanoseconds.
        until_ns: Unix nanoseconds; None while it has no successor that all have acknowledged.
        converged_ns: when the last node acknowledged this revision itself, Unix nanoseconds; None if that never was.
    """

    revision: int
    document: Mapping[str, Any]
    from_ns: int
    until_ns: int | None = None
    converged_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One run.

    Attributes:
        records: one a request, in any order.
        revisions: all that were in force at any time during the run.
        planned: number of requests that the run was to send; where people or users decided that, those that came due,
            by the driver's own count.
        offered_rate: of the plan, requests per second; None if people or users decided when requests were sent.
        closed_loop: whether users waited for answers before they thought of the next request.
        schedule_delay_bound_ms: what the 99th percentile of the schedule delay (sent minus intended) may be at most;
            with more, the latencies tell of the driver and not of what it drove.
        copies: by routing key, ids of the requests of which the model replicas say that they received a shadow's copy;
            None if nobody asked them.
        copied_again: ids of those whose copy a replica received more than once.
    """

    records: Sequence[Record]
    revisions: Sequence[RevisionInForce]
    planned: int
    offered_rate: float | None
    closed_loop: bool = False
    schedule_delay_bound_ms: float = 5.0
    copies: Mapping[str, frozenset[str]] | None = None
    copied_again: frozenset[str] = frozenset()
