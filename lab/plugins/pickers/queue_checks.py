"""Requests that waited at gateways for a replica with room: by the table's priorities, and shed with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.plugins.pickers.pick_checks import follow
from lab.plugins.pickers.readers import READERS
from lab.plugins.pickers.replicas import Entry, Objection

if TYPE_CHECKING:
    from lab.history import Record
    from lab.plugins.pickers.journals import Run

SHED = frozenset(("queue-full", "waited-too-long"))
_REFUSED = "RESOURCE_EXHAUSTED"
_INSTEAD = frozenset(("fallback", "default"))
_DEFAULT = "default"


def _priorities(run: Run) -> Iterator[Objection]:
    """Yields requests whose place in the queue is not by their use case, tenant and caller."""
    for each in (*run.of_run, *run.waits_of_run):
        asked, record = each["asked"], run.records[each["asked"]["request_id"]]
        if "flow" not in asked or not (asked["flow"] or _is_judged(each)):
            continue  # of an earlier release, or picked where no request waits
        tables = run.tables_for(record)
        if asked["priority"] not in {its["use_cases"][record.use_case].get("priority", 0) for its in tables}:
            message = f"the picker went by priority {asked['priority']}, which {record.use_case} did not have"
            yield Objection(record.request_id, message)
        named = {record.tenant in its.get("tenants", {}).keys() - {_DEFAULT} for its in tables}
        right = {f"tenant/{record.tenant}" if each else f"caller/{record.caller}" for each in named}
        if asked["flow"] not in right:
            message = f"the picker counted it as of {asked['flow']}, and it is of {' or '.join(sorted(right))}"
            yield Objection(record.request_id, message)


def _reasons(run: Run) -> Iterator[Objection]:
    """Yields requests that were shed at last and whose answers do not say why."""
    for name, wait in _last(run).items():
        record = run.records[name]
        if wait["outcome"] in SHED and record.status == _REFUSED and not _says_why(record, wait):
            message = f"it was shed ({wait['outcome']}), and its caller does not learn that: {record.message[:80]!r}"
            yield Objection(name, message)


def rightly_shed(run: Run) -> set[str]:
    """Returns the requests that a gateway shed as the picker's second reader allows, and what came of it.

    They were refused with the reason, or answered by a fallback, or by the caller's own default after all of them.
    """
    wrong = {each.request_id for each in follow(run)}
    last = _last(run)
    found = set()
    for wait in run.waits_of_run:
        name = wait["asked"]["request_id"]
        record = run.records[name]
        is_refused = record.status == _REFUSED and _says_why(record, wait) and last.get(name) is wait
        if wait["outcome"] in SHED and _is_judged(wait) and name not in wrong:
            found |= {name} if is_refused or record.source in _INSTEAD else set()
    return found


def unread(run: Run) -> set[str]:
    """Returns the pickers that let requests wait, and have no second reader that judges it."""
    return {each["policy"] for each in run.waits_of_run if not _is_judged(each)}


def summary(run: Run) -> str:
    """The waits of a run in words; empty without any."""
    if not run.waits_of_run:
        return ""
    longest_ms = max((each["ended_ns"] - each["at_ns"]) / 1_000_000 for each in run.waits_of_run)
    shed = sum(each["outcome"] in SHED for each in run.waits_of_run)
    return f"; {len(run.waits_of_run)} waited for room, up to {longest_ms:.0f} ms, and {shed} of these were shed"


def _last(run: Run) -> dict[str, Entry]:
    """Each request's last wait, if no pick came after it."""
    latest: dict[str, Entry] = {}
    for each in sorted((*run.of_run, *run.waits_of_run), key=lambda each: each["at_ns"]):
        latest[each["asked"]["request_id"]] = each
    return {name: each for name, each in latest.items() if "outcome" in each}


def _is_judged(entry: Entry) -> bool:
    """Whether its picker lets requests wait, and has a second reader of it."""
    return entry["policy"] in READERS and READERS[entry["policy"]].make().judges_waits


def _says_why(record: Record, wait: Entry) -> bool:
    return f"({wait['outcome']})" in record.message


QUEUE_CHECKS = (_priorities, _reasons)
"""Each yields the requests of a run to which it objects."""
