"""The checker ``page``: is each page made of exactly its own calls, within its own time?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lab.checkers import Claim, Outcome, Verdict, Violation
from lab.checkers.checker import Checker
from lab.checkers.kinds.path import hops_in
from lab.checkers.plain_schedule import FIELDS, planned_requests
from lab.history.arrivals import NO_DEADLINE, NO_TIME_RECORDED
from lab.history.record import FIELDS as RECORD
from lab.plugins.pages.edge.probes import ATTACKS, REFUSED
from lab.plugins.pages.engine import RETRIES
from lab.plugins.pages.tree import tree_of

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.history.arrivals import Arrival

T = TypeVar("T")

NAME = "page"

CANCELLED_WITHIN_MS = 250
"""Time in which a page that is cancelled, or too late, ends its calls down to the models."""

LEAST_CALLS = 100
"""Calls that are enough to judge their retries."""

SLACK_MS = 100
"""More than it may take from a look at the time that is left until the call is sent, on a busy machine."""

SLOW_MS, LEAST_SLOW = 50, 10
"""Time of models, and parts after it, by which it shows whether deadlines shrink."""

ROUNDED_MS = ((985, 25), (9_850, 45), (math.inf, 250))
"""Time left, and how much longer it may be after a hop or two: gRPC rounds it up to whole milliseconds, from a second
on to tens, from ten seconds on to hundreds, and each end reads its clock."""

_MS = 1_000_000
_ENDS = ("CANCELLED", "DEADLINE_EXCEEDED")


class _Run(NamedTuple):
    """The evidence of a run's pages.

    Attributes:
        settings: of the engine.
        planned: each page's fields, by the plan.
        pages: as the driver recorded them, by their number.
        calls: that callers made, each a record by its fields, by id.
        built: pages and parts of pages that callers built, by id.
        refusals: status by attack on the edge.
        arrivals: at models, by the id of the call.
        calls_of: the calls by the number of their page; the next likewise.
    """

    settings: Mapping[str, Any]
    planned: Sequence[Mapping[str, Any]]
    pages: Mapping[int, Mapping[str, Any]]
    calls: Mapping[str, Mapping[str, Any]]
    built: Mapping[str, Mapping[str, Any]]
    refusals: Mapping[str, str]
    arrivals: Mapping[str, Sequence[Arrival]]
    calls_of: Mapping[int, Sequence[Mapping[str, Any]]]
    built_of: Mapping[int, Sequence[Mapping[str, Any]]]


def check(evidence: Evidence) -> Verdict | None:
    """Compares the pages with the plan, with the calls that callers made for them, and with what models received.

    - Each planned page was asked for, for the planned user; each call that was made is one that the page's tree has at
      that place, by its caller, for the page's user and context.
    - The sections of a page that was answered are those of its tree, each with the items that the call of that id
      brought, or with its error.
    - Parts of a page, and models, have no more time left than the page that asked for them; nothing is sent once its
      time is over.
    - A page that ended without an answer has ended its calls at models within :data:`CANCELLED_WITHIN_MS`.
    - Models received no more attempts than calls and the retries that the run allows for each hundred of these, at all
      hops together; shadow copies aside.
    - Where the lab has an edge, each answer has passed it, and it has refused each of :data:`ATTACKS`.

    Returns:
        None if the run has no pages. Invalid with any violation. Unknown without a page that was answered, without
        what models received, without a caller's journal, or with more attempts than calls of which there are fewer than
        :data:`LEAST_CALLS`.
    """
    document, plan = evidence.gathered.get(NAME), evidence.plan_document
    if document is None:
        return None
    if evidence.arrivals is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the replicas were not asked what they received")
    run = _run(document, plan, evidence.arrivals)
    judges = (_as_planned, _made_of_their_calls, _in_time, _cancelled, _attempts, _through_edge)
    objections = [objection for judge in judges for objection in judge(run)]
    violations = tuple(Violation(NAME, number, page_id, message) for number, page_id, message in objections)
    answered = [page for page in run.pages.values() if page["status"] == "OK"]
    sent = sum(page["status"] != "UNSENT" for page in run.pages.values())
    summary = f"{sent} pages of {len(run.settings['calls'])} calls, {len(answered)} answered"
    if sent < len(run.pages):
        summary += f", {len(run.pages) - sent} not sent"
    if answered:
        summary += f"; {_figures(run, answered)}"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} objections; {summary}", violations)
    silent = set(run.settings["units"]) - {each["caller"] for each in run.built.values()}
    if silent:
        return Verdict(NAME, Outcome.UNKNOWN, f"no journal of {', '.join(sorted(silent))}; {summary}")
    if len(run.calls) < LEAST_CALLS and _attempts_of(run) > len(run.calls):
        return Verdict(NAME, Outcome.UNKNOWN, f"too few calls to judge their retries; {summary}")
    return Verdict(NAME, Outcome.VALID if answered else Outcome.UNKNOWN, summary)


def _run(document: Mapping[str, Any], plan: Mapping[str, Any], arrivals: Iterable[Arrival]) -> _Run:
    calls = {each["request_id"]: each for each in (dict(zip(RECORD, row, strict=True)) for row in document["calls"])}
    built = {each["id"]: each for each in document["built"]}
    received: defaultdict[str, list[Arrival]] = defaultdict(list)
    for each in arrivals:
        if each.request_id in calls and not each.is_copy:
            received[each.request_id].append(each)
    as_drawn = {**plan, "engine": {**plan["engine"], "as_drawn": True}}
    return _Run(
        settings=plan["engine"]["settings"],
        planned=[each._asdict() for each in planned_requests(as_drawn)],
        pages={each["sequence"]: each for each in document["pages"]},
        calls=calls,
        built=built,
        refusals=document.get("refusals", {}),
        arrivals=received,
        calls_of=_by_page(calls),
        built_of=_by_page(built),
    )


Objection = tuple[int, str, str]


def _as_planned(run: _Run) -> Iterator[Objection]:
    """Yields pages and calls that are not those of the plan."""
    tree = {place: (caller, use_case) for caller, use_case, place in run.settings["calls"]}
    for number, wanted in enumerate(run.planned):
        page = run.pages.get(number)
        if page is None:
            yield number, "", f"page #{number} was planned, and has no record"
            continue
        if differ := [each for each in FIELDS if page[each] != wanted[each]]:
            yield number, page["request_id"], f"{_named(page)} was asked for with another {differ[0]} than planned"
    for call_id, call in run.calls.items():
        number, place = _place(call_id)
        page = run.pages.get(number)
        if page is None or page["status"] == "UNSENT":
            yield number, call_id, f"call {call_id} belongs to a page that was not asked for"
        elif tree.get(place) != (call["caller"], call["use_case"]):
            yield number, call_id, f"{_named(page)}: {call['caller']} asked for {call['use_case']} at {place}"
        elif differ := [each for each in FIELDS if call[each] != page[each]]:
            yield number, call_id, f"{_named(page)}: call {place} has another {differ[0]} than the page"
        elif call["status"] == "CANCELLED" and page["status"] == "OK" and call["done_ns"] < _over_ns(run, page):
            yield number, call_id, f"{_named(page)} was answered, and its call {place} was cancelled"


def _made_of_their_calls(run: _Run) -> Iterator[Objection]:
    """Yields pages whose sections are not those of their own calls."""
    places = sorted(place for _, _, place in run.settings["calls"])
    for number, page in run.pages.items():
        if page["status"] != "OK":
            continue
        sections = list(_leaves(page["sections"]))
        failed = [_place(each["id"])[1] for each in sections if "sections" not in each]
        found = sorted(_place(each["id"])[1] for each in sections)
        inner = [place for place in places if not any(place == each or place.startswith(f"{each}.") for each in failed)]
        if found != sorted([*failed, *inner]) or {*found} - {*places} - _parts(places):
            yield number, page["request_id"], f"{_named(page)} has the sections {', '.join(found)}, not those planned"
        for each in sections:
            yield from ((number, page["request_id"], why) for why in _objections(run, number, page, each))


def _parts(places: Iterable[str]) -> set[str]:
    """The places of pages within a page."""
    found = set()
    for place in places:
        steps = place.split(".")
        found |= {".".join(steps[:end]) for end in range(2, len(steps), 2)}
    return found


def _leaves(sections: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for each in sections:
        if "sections" in each:
            yield from _leaves(each["sections"])
        else:
            yield each


def _objections(run: _Run, number: int, page: Mapping[str, Any], section: Mapping[str, Any]) -> Iterator[str]:
    where, call = f"{_named(page)}: section {section['use_case']}", run.calls.get(section["id"])
    if _place(section["id"])[0] != number:
        yield f"{where} is of another page, {section['id']}"
    elif call is None:
        if not section["error"]:
            yield f"{where} is of no call that its caller made"
    elif bool(section["error"]) == (call["status"] == "OK"):
        yield f"{where} says {section['error'] or 'OK'!r}, and its call ended as {call['status']}"
    elif section["items_digest"] != call["items_digest"] or section["replica"] != call["replica"]:
        yield f"{where} has other items than its call brought"


def _in_time(run: _Run) -> Iterator[Objection]:
    """Yields what had more time than the whole page, or was sent after it, and deadlines that do not shrink.

    A deadline travels as the time that is left, and gRPC counts that from when it last read its clock: a caller that
    was held up passes on more than it has, up to what the page began with. So no part may have more than that; and of
    the parts before which models took :data:`SLOW_MS`, most must have less by at least half of it.
    """
    timeout_ms = run.settings["timeout_ms"]
    most_ms = timeout_ms + next(more for below, more in ROUNDED_MS if timeout_ms < below)
    kept = slow = 0
    for number, page in run.pages.items():
        served = _Served(run, number)
        yield from ((number, *each) for each in _sent_too_late(run, number, page))
        for name, left_ms, where in _left(run, number):
            if left_ms > most_ms:
                had = f"{name} had {left_ms:.0f} ms left at {where}, and the page {timeout_ms} ms in all"
                yield number, name, f"{_named(page)}: {had}"
            before_ms = served.before_part(_steps(name))
            if before_ms >= SLOW_MS:
                slow += 1
                kept += left_ms > timeout_ms - before_ms / 2
    if slow >= LEAST_SLOW and kept > slow / 2:
        yield 0, "", f"{kept} of {slow} parts had the time again that models had taken before them"


def _sent_too_late(run: _Run, number: int, page: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields calls that were sent after their page's deadline, or came to models without one."""
    for call in run.calls_of.get(number, ()):
        name, whole = call["request_id"], run.built.get(_page_above(call))
        late_ms = (call["sent_ns"] - whole["sent_ns"]) / _MS - whole["left_ms"] if whole else 0.0
        if late_ms > SLACK_MS:
            yield name, f"{_named(page)}: {name} was sent {late_ms:.0f} ms after the page's deadline"
        for each in run.arrivals.get(name, ()):
            if each.remaining_ms == NO_DEADLINE:
                yield name, f"{_named(page)}: {name} came to {each.replica} without a deadline"


def _left(run: _Run, number: int) -> Iterator[tuple[str, float, str]]:
    """Yields the id of each part and call of a page, the milliseconds that were left when it came, and where."""
    for part in run.built_of.get(number, ()):
        yield part["id"], part["left_ms"], part["caller"]
    for call in run.calls_of.get(number, ()):
        for each in run.arrivals.get(call["request_id"], ()):
            if each.remaining_ms not in {NO_DEADLINE, NO_TIME_RECORDED}:
                yield call["request_id"], each.remaining_ms, each.replica


class _Served:
    """How long models took for the calls of one page, milliseconds."""

    def __init__(self, run: _Run, number: int) -> None:
        self._took: dict[tuple[int, ...], float] = {}
        for call in run.calls_of.get(number, ()):
            took = [each.ended_ns - each.arrived_ns for each in run.arrivals.get(call["request_id"], ())]
            if call["status"] == "OK":
                self._took[_steps(call["request_id"])] = max(took, default=0) / _MS

    def before_part(self, steps: tuple[int, ...]) -> float:
        """Returns the time of all stages before a part, by its place; 0 for the whole page."""
        if not steps:
            return 0.0
        return self.before_part(steps[:-2]) + self.before(steps[:-2], steps[-2])

    def before(self, page: tuple[int, ...], stage: float) -> float:
        """Returns the time of the stages of a page, or of a part of one, that are before a stage."""
        depth = len(page)
        slowest: dict[int, float] = {}
        for place in {each[: depth + 2] for each in self._took if each[:depth] == page and each[depth] < stage}:
            took = self._took[place] if place in self._took else self.before(place, math.inf)
            slowest[place[depth]] = max(took, slowest.get(place[depth], 0.0))
        return sum(slowest.values())


def _steps(name: str) -> tuple[int, ...]:
    """The place that an id has in its page, as numbers."""
    return tuple(int(step) for step in _place(name)[1].split(".") if step)


def _part_id(call: Mapping[str, Any]) -> str:
    """What the id of a call would be, were it a part of a page."""
    return f"{call['request_id'].partition('.')[0]}-{call['request_id'].rpartition('-')[2]}"


def _page_above(call: Mapping[str, Any]) -> str:
    """Id of the page, or of the part of one, that a call belongs to."""
    return _part_id(call).rsplit(".", 2)[0]


def _over_ns(run: _Run, page: Mapping[str, Any]) -> int:
    """When a page's time is nearly over."""
    return int(page["sent_ns"] + (run.settings["timeout_ms"] - SLACK_MS) * _MS)


def _cancelled(run: _Run) -> Iterator[Objection]:
    """Yields calls that went on at models after their page had ended without an answer."""
    for number, page in run.pages.items():
        if page["status"] not in _ENDS:
            continue
        until_ns = page["done_ns"] + CANCELLED_WITHIN_MS * _MS
        for call in run.calls_of.get(number, ()):
            for each in run.arrivals.get(call["request_id"], ()):
                if not each.ended_ns or each.ended_ns > until_ns:
                    for_ms = (each.ended_ns - page["done_ns"]) / _MS if each.ended_ns else 0
                    went_on = f"for {for_ms:.0f} ms" if for_ms else "to the end of the run"
                    message = f"{_named(page)} ended as {page['status']}, and {each.replica} went on {went_on}"
                    yield number, call["request_id"], message


def _attempts(run: _Run) -> Iterator[Objection]:
    """Yields the run's attempts, if there are too many."""
    attempts, percent = _attempts_of(run), run.settings.get("retries", RETRIES)
    if len(run.calls) >= LEAST_CALLS and (attempts - len(run.calls)) * 100 > percent * len(run.calls):
        each = attempts / len(run.calls)
        allowed = f"their pages allow {percent} retries for each hundred"
        yield 0, "", f"models received {attempts} attempts for {len(run.calls)} calls, {each:.2f} for each; {allowed}"


def _through_edge(run: _Run) -> Iterator[Objection]:
    """Yields pages that have not passed the lab's edge, and what it did not refuse."""
    if not (edge := run.settings.get("edge")):
        return
    for attack in ATTACKS:
        if (status := run.refusals.get(attack)) != REFUSED:
            yield 0, "", f"{edge['unit']} answered a request with {attack} by {status}, not by {REFUSED}"
    for number, page in run.pages.items():
        if page["status"] == "OK" and [hop.unit for hop in hops_in(page.get("via", ""))] != [edge["unit"]]:
            yield number, page["request_id"], f"{_named(page)} was answered, and has not passed {edge['unit']}"


def _attempts_of(run: _Run) -> int:
    """The attempts of all calls that models received."""
    return sum(map(len, run.arrivals.values()))


def _by_page(entries: Mapping[str, T]) -> dict[int, list[T]]:
    """The entries, whose names are ids, by the number of the page that they belong to."""
    found: defaultdict[int, list[T]] = defaultdict(list)
    for name, entry in entries.items():
        found[_place(name)[0]].append(entry)
    return found


def _place(name: str) -> tuple[int, str]:
    """The number of the page that an id belongs to, and its place in the page."""
    page, _, place = name.rpartition("-")[2].partition(".")
    return int(page, 16), place


def _named(page: Mapping[str, Any]) -> str:
    return f"page #{page['sequence']} ({page['request_id'] or 'not sent'})"


def _figures(run: _Run, answered: Sequence[Mapping[str, Any]]) -> str:
    times = sorted((page["done_ns"] - page["intended_ns"]) / _MS for page in answered)
    attempts = _attempts_of(run)
    missing = sum(any(each["error"] for each in _leaves(page["sections"])) for page in answered)
    words = f"p50 {_at(times, 50):.1f}, p99 {_at(times, 99):.1f} ms; {attempts} attempts for {len(run.calls)} calls"
    return words + (f"; {missing} with a section missing" if missing else "")


def _at(times: Sequence[float], percent: int) -> float:
    return times[max(0, -(-len(times) * percent // 100) - 1)]


CHECKER = Checker(
    name=NAME,
    question="Is each page made of exactly its own calls, for its own user, within its own time?",
    subject="pages",
    blind="what a caller does with items beyond passing them on, and deadlines that are off by less than 25 ms",
    claim=Claim.CORRECTNESS,
    tree=tree_of,
    check=check,
)
