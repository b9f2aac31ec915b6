"""The checker ``served``: did the endpoint that was picked serve, and if not, does the picker know why?"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.checkers import Claim, Outcome, Verdict, Violation
from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import request as named
from lab.history.arrivals import DIGITS, NOT_RECORDED, header_digest, header_places
from lab.plugins.endpoint_picker.contract import DESTINATION
from lab.plugins.endpoint_picker.units import ENVOYS, PICKER

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.history import Record
    from lab.history.arrivals import Arrival
    from lab.runs.drive import RunContext

NAME = "served"
UNPICKED_SHARE = 0.01
"""Share of the requests that may go without a pick in a lab without faults, as when a busy machine holds the picker up
for longer than the proxy waits."""

_LOG = "access.log"
_SETTLES_S, _FLUSHED_S = 3.0, 0.3


def gather(context: RunContext) -> Any:
    """Returns what pickers logged since the run began, and the replicas' addresses; None in a lab without a picker."""
    units = context.state.plan.with_role(PICKER)
    if not units:
        return None
    from lab.client.admin import AdminClient  # noqa: PLC0415 (gRPC, which no judgement needs)

    with AdminClient(context.state.plan.control_plane) as admin:
        replicas = {each.address: each.replica for each in admin.status().replicas}
    until, lines = time.monotonic() + _SETTLES_S, -1
    rows: list[list[Any]] = []
    while len(rows) > lines and time.monotonic() < until:  # streams may end, and lines be written, after the answers
        time.sleep(_FLUSHED_S)
        lines, rows = len(rows), []
        for unit in units:
            context.runtime.fetch_file(unit, _LOG)
            rows += _rows(context.units / unit.name / _LOG, context.since_ns / 1e9)
    return {"replicas": replicas, "picks": rows}


def _rows(file: Any, since_s: float) -> Iterator[list[Any]]:
    if not file.exists():
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                each = json.loads(line)
            except ValueError:
                continue  # the last one may still be written
            if each["time"] >= since_s:
                yield [each["request_id"], each["routing_key"], each["outcome"], each["picked"], each["served"]]


def check(evidence: Evidence) -> Verdict | None:
    """Compares the pick log with where requests came to, and with the header that models received.

    - The first attempt of a request with a pick came to the first endpoint of the pick; a further one, to the next of
      the list or, once that is walked, to any replica.
    - What the proxy said has served is the replica that answered, and it was told to the picker: an answer from
      elsewhere than picked is a fallback that the picker has counted.
    - The header with which a request came to a model is the pick of that very request, and absent without one.

    A replica that a marked fault hit may be passed over. Requests without a pick are counted; without a fault at the
    picker or its proxy they must be :data:`UNPICKED_SHARE` of all at most.

    Returns:
        None if the run's topology has no picker. Invalid with any violation. Unknown with too many requests without a
        pick, without any pick, or if models were not asked.
    """
    if not {*ENVOYS} & {*evidence.abilities.between}:
        return None
    document = evidence.gathered.get(NAME)
    if not document:
        return Verdict(NAME, Outcome.UNKNOWN, "the picker's log is not there")
    if evidence.arrivals is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the replicas were not asked what they received")
    picks: defaultdict[str, list[_Pick]] = defaultdict(list)
    for request_id, *fields in document["picks"]:
        picks[request_id].append(_Pick(*fields))
    counts: Counter[str] = Counter()
    violations: list[Violation] = []
    for record in evidence.records:
        attempts = sorted(evidence.attempts.get(record.request_id, ()), key=lambda each: each.arrived_ns)
        run = _Run(record, picks.get(record.request_id, ()), document["replicas"], evidence, counts)
        violations += [
            Violation(NAME, record.sequence, record.request_id, f"{named(record)} {message}")
            for message in run.objections(attempts)
        ]
    return _verdict(counts, violations, disturbed=_disturbed(evidence))


def _verdict(counts: Mapping[str, int], violations: Sequence[Violation], *, disturbed: bool) -> Verdict:
    judged = counts["as picked"] + counts["elsewhere"]
    summary = f"{judged} picks, {counts['as picked']} served as picked, {counts['elsewhere']} elsewhere"
    if counts["not said"]:
        summary += f", {counts['not said']} of which the proxy did not say where"
    summary += f"; {counts['unpicked']} requests without a pick"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} not as picked; {summary}", tuple(violations))
    too_many = counts["unpicked"] > UNPICKED_SHARE * (judged + counts["unpicked"]) and not disturbed
    return Verdict(NAME, Outcome.UNKNOWN if too_many or not judged else Outcome.VALID, summary)


class _Pick(NamedTuple):
    """A line of the pick log; ``picked`` is the header's text."""

    routing_key: str
    outcome: str
    picked: str
    served: str


@dataclass(frozen=True, slots=True)
class _Run:
    """One request: a client may ask again by its id, for the same version or for another one of a chain."""

    record: Record
    picks: Sequence[_Pick]
    replicas: Mapping[str, str]
    evidence: Evidence
    counts: Counter[str]

    def objections(self, attempts: Sequence[Arrival]) -> Iterator[str]:
        """Yields what is wrong with the attempts, in the order in which they arrived."""
        of_pick: defaultdict[_Pick, list[Arrival]] = defaultdict(list)
        for each in attempts:
            carried = _carried(each)
            mine = [pick for pick in self.picks if pick.routing_key == each.routing_key and pick.picked]
            if carried == "":
                self.counts["unpicked"] += 1
                # A proxy that has given the picker up tells it nothing more; the pick may come too late.
                if any(pick.served for pick in mine) and len(mine) >= len(attempts):
                    yield f"came to {each.replica} without the header of its pick"
                continue
            found = [pick for pick in mine if carried in (None, header_digest(pick.picked))]
            if found:
                of_pick[found[0]].append(each)
            elif mine:
                yield f"came to {each.replica} with the header of another pick"
            else:
                yield f"came to {each.replica} with a picked endpoint, and there was no pick"
        for pick, its in of_pick.items():
            yield from self._of(pick, [each.replica for each in its])

    def _of(self, pick: _Pick, came_to: Sequence[str]) -> Iterator[str]:
        # A replica that is new, or gone, when the run ends may have no name here.
        expected = [self.replicas.get(address) for address in pick.picked.split(",")]
        wrong = _out_of_order(came_to, expected)
        if wrong and not _hit(self.evidence, self.record, wrong[1]):
            yield f"came to {wrong[0]}, and the picker had picked {wrong[1]}"
        self.counts["not said"] += not pick.served
        served = self.replicas.get(pick.served)
        if served is not None and served not in came_to:
            yield f"came to {', '.join(came_to)}, and the picker was told that {served} had served"
        self.counts["as picked" if expected[0] in (came_to[-1], None) else "elsewhere"] += 1


def _out_of_order(came_to: Sequence[str], expected: Sequence[str | None]) -> tuple[str, str] | None:
    """The first attempt that came to another replica than the list has then, and that one; None if all are in order.

    An attempt that could not connect came to none: later ones may be further down the list.
    """
    place = 0
    for number, replica in enumerate(came_to):
        if replica in expected[place:]:
            skipped = expected[place:].index(replica)
            if skipped and number == 0:
                return replica, str(expected[place])
            place += skipped + 1
        elif place < len(expected) and number == 0 and None not in expected:
            return replica, str(expected[0])
    return None


def _hit(evidence: Evidence, record: Record, replica: str) -> bool:
    """Whether the picked replica may have been out of reach: a marked fault, or its registration ended or began."""
    if any(each.met(record) and each.hits(replica.rsplit("-", 1)[0]) for each in evidence.fault_windows):
        return True
    registered = evidence.registrations.replicas if evidence.registrations else ()
    mine = [each for each in registered if each.replica == replica]
    return not any(
        each.from_ns <= record.sent_ns and (each.until_ns is None or each.until_ns >= record.done_ns) for each in mine
    )


def _disturbed(evidence: Evidence) -> bool:
    roles = {PICKER, *evidence.abilities.between}
    return any(each.role in roles or each.target in roles for each in evidence.fault_windows)


def _carried(arrival: Arrival) -> str | None:
    """Digest of the header of the pick, empty if the request came without; None if the names are not known."""
    if arrival.headers == NOT_RECORDED:
        return None
    place = next(iter(header_places(arrival.headers).get(DESTINATION, ())), None)
    return "" if place is None else arrival.values[place : place + DIGITS]


CHECKER = Checker(
    name=NAME,
    question="Did the picked endpoint serve each request, and was the picker told of each that was served elsewhere?",
    subject="a topology with an endpoint picker",
    blind="whether the pick was a good one, attempts that could not connect, and a proxy that ignores picks where its "
    "own policy makes the same, as round-robin on both sides",
    claim=Claim.CORRECTNESS,
    gather=gather,
    check=check,
)
