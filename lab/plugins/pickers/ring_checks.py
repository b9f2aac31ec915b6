"""Where requests of conversations must come to, if Envoys and gRPC clients pick by a ring of hashes.

They keep no log of picks, but the ring follows from the addresses of the replicas, and its place from the conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from lab.checkers.evidence import RECOVERY_NS, cluster_of
from lab.plugins.pickers.pick_checks import is_broken
from lab.plugins.pickers.readers import on_ring
from lab.plugins.pickers.replicas import Objection

if TYPE_CHECKING:
    from lab.history import Record
    from lab.plugins.pickers.journals import Run

PICKER = "session-ring"
_LONGEST = 256
_EJECT = {"outliers", "health"}


class Placed(NamedTuple):
    """A request, the replica that it came to, and the one that the ring gives its conversation."""

    request_id: str
    session: str
    came: str
    due: str


def placed(run: Run) -> Iterator[Placed]:
    """Yields the requests of which the ring says where they must come to.

    These were sent once, while their cluster had the same replicas for 2 s or longer. None are if something was broken,
    or where links are between, as the ring then has their addresses; and where a table ejects replicas, only those
    before the first failure.
    """
    evidence, registrations = run.evidence, run.evidence.registrations
    if run.picker != PICKER or run.has_links or is_broken(run) or registrations is None or registrations.gap_ns:
        return
    ejected_ns = _ejected_ns(run)
    for name, record in run.records.items():
        attempts, asked = evidence.attempts.get(name, ()), run.asked(record)
        if len(attempts) != 1 or asked is None or not asked[3] or attempts[0].arrived_ns > ejected_ns:
            continue
        [(_, _, _, session), came] = asked, attempts[0].replica
        if came in (addresses := _addresses(run, cluster_of(came), record)):
            due = on_ring(quote(session, safe="")[:_LONGEST], addresses.values())
            yield Placed(name, session, came, next(each for each, its in addresses.items() if its == due))


def _ejected_ns(run: Run) -> float:
    """Returns when the first attempt failed, Unix nanoseconds, if a table ejects replicas for that; else never."""
    if all(_EJECT.isdisjoint(rules.settings) for rules in run.evidence.timeline.rules):
        return float("inf")
    failed = (each.arrived_ns for its in run.evidence.attempts.values() for each in its if each.status != "OK")
    return min(failed, default=float("inf"))


def _addresses(run: Run, cluster: str, record: Record) -> Mapping[str, str]:
    """Returns the addresses of a cluster's replicas by name; none if these were not the same all the time."""
    registrations = run.evidence.registrations
    there = run.evidence.settled(cluster, record.sent_ns, record.done_ns)
    maybe = {
        each.replica
        for each in (registrations.replicas if registrations else ())
        if each.cluster == cluster
        and each.from_ns <= record.done_ns
        and (each.until_ns is None or each.until_ns + RECOVERY_NS >= record.sent_ns)
    }
    if there != maybe or not there <= run.replicas.keys():
        return {}
    return {each: run.replicas[each]["address"] for each in there}


def _strayed(run: Run) -> Iterator[Objection]:
    """Yields requests that did not come to the replica of their conversation."""
    for each in placed(run):
        if each.came != each.due:
            message = f"{each.came} served it, and the ring gives its conversation {each.session} to {each.due}"
            yield Objection(each.request_id, message)


RING_CHECKS = (_strayed,)
"""Each yields the requests of a run to which it objects."""
