"""Did requests come to models with the headers of their own path, and with their own values?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history.arrivals import DIGITS, NOT_RECORDED, header_digest, header_places

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history import Record
    from lab.history.arrivals import Arrival

NAME = "headers"

_ONCE = ("x-request-id", "x-routing-key", "x-tenant", "x-shadow", "x-shadow-key", "traceparent")
"""Headers of which a request has one at most; of two, each unit would read another."""


def check(evidence: Evidence) -> Verdict | None:
    """Compares the headers with which requests, and copies of them, came to models with those of their path.

    A model keeps the names of all headers, and a digest of each value. The names must be those that gRPC, the lab's
    client and the units of the topology add. The request's id, its routing key, its tenant and the mark of a shadow
    must come once at most, with the request's own values: so what a unit keeps of another request is seen.

    Returns:
        None if a unit of the topology does not say which headers it adds, or if the run is of an earlier release,
        which has no such evidence. Invalid with any violation. Unknown if the replicas were not asked, received
        nothing, or did not keep the names of some.
    """
    allowed = evidence.abilities.headers
    if allowed is None:
        return None
    if evidence.arrivals is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the replicas were not asked what they received")
    if evidence.arrivals and all(each.headers == NOT_RECORDED for each in evidence.arrivals):
        return None
    records = {record.request_id: record for record in evidence.records if record.request_id}
    violations: list[Violation] = []
    counts: Counter[str] = Counter()
    for each in evidence.arrivals:
        record = records.get(each.request_id)
        if record is None:
            continue
        counts["judged"] += 1
        counts["not kept"] += each.headers == NOT_RECORDED
        for message in _objections(record, each, allowed):
            what = "a copy of " if each.is_copy else ""
            text = f"{what}{request(record)} came to {each.replica} {message}"
            violations.append(Violation(NAME, record.sequence, record.request_id, text))
    summary = f"{counts['judged']} requests and copies came to models, each with its headers"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} not of its path; {summary}", tuple(violations))
    if counts["not kept"]:
        return Verdict(NAME, Outcome.UNKNOWN, f"{summary}; {counts['not kept']} of which the models did not keep")
    return Verdict(NAME, Outcome.VALID if counts["judged"] else Outcome.UNKNOWN, summary)


def _objections(record: Record, arrival: Arrival, allowed: Collection[str]) -> Iterator[str]:
    if arrival.headers == NOT_RECORDED:
        return
    places = header_places(arrival.headers)
    for name in places.keys() - allowed:
        yield f"with a header {name!r}, which nothing on its path adds"
    for name in _ONCE:
        if len(places.get(name, ())) > 1:
            yield f"with {len(places[name])} headers {name!r}"
    own = {"x-request-id": record.request_id, "x-routing-key": arrival.routing_key}
    own |= {"x-tenant": quote(record.tenant, safe="") or "%", "x-shadow": "copy"}
    for name, value in own.items():
        for place in places.get(name, ()):
            if arrival.values[place : place + DIGITS] != header_digest(value):
                yield f"with another {name!r} than its own {value!r}"


CHECKER = Checker(
    name=NAME,
    question="Did requests come to models with the headers of their own path, and with their own values?",
    blind="values of headers that are not of the lab's own, and the order of all",
    subject="a topology whose units say which headers they add",
    claim=Claim.CORRECTNESS,
    check=check,
)
