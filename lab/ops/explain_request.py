"""The story of one request: what it asked, which rule matched, why no earlier one did, who answered, and the proof."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.checkers import CHECKERS
from lab.checkers.evidence import prefix_of
from lab.checkers.plain_models import score_of
from lab.errors import InputError, NoDecisionError, RunError
from lab.routing.compiled import Router
from lab.routing.explanation import explain
from lab.runs.folder import RunFolder
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.history import Record
    from lab.ops.inspect import LogLine

_REQUEST = ("request_id", "topology", "caller", "use_case", "user_id")
_ANSWER = ("status", "message", "source", "model", "version", "cluster", "replica", "attempts", "shadow")
_CONTEXT = ("device", "country", "segment", "surface", "tenant", "traffic_origin", "override")
_NS, _NS_PER_MS = 1e9, 1e6
_MOST_NAMED = 5


def find(request_id: str, folders: Iterable[Path]) -> tuple[RunFolder, Record]:
    """Returns the run that has a request, of those in some folders, which may still go on; and the request's record.

    Raises:
        InputError: none of them has it.
        RunError: a folder cannot be read.
    """
    folders = list(folders)
    for run in _that_may_have(request_id, folders):
        if run.spools:
            records = run.spooled()
        else:
            columns = run.columns
            rows = columns.table.filter(columns.is_word("request_id", request_id))
            records = list(type(columns)(rows).records())
        for record in records:
            if record.request_id == request_id:
                return run, record
    names = ", ".join(each.name for each in folders[:_MOST_NAMED]) + (", …" if len(folders) > _MOST_NAMED else "")
    raise InputError(
        f"request {request_id!r} is in none of the runs {names or 'here'}; take an id from a run's history"
    )


def tree(request_id: str, folders: Iterable[Path]) -> Mapping[str, Any] | None:
    """Returns the tree of calls that a request of these runs is a part of, see :attr:`lab.checkers.Checker.tree`.

    None if it is a part of none, or its run has not been collected yet.
    """
    shown = {name: checker.tree for name, checker in CHECKERS.items() if checker.tree is not None}
    for run in _that_may_have(request_id, folders):
        for name, tree_in in shown.items():
            evidence = run.gathered_by(name)
            if evidence is not None and (found := tree_in(evidence, run.plan_document, request_id)) is not None:
                return found
    return None


def _that_may_have(request_id: str, folders: Iterable[Path]) -> Iterator[RunFolder]:
    """Yields the runs whose requests' ids begin so; a run without a plan, or of an earlier release, may have any."""
    load = _load_of(prefix_of(request_id))
    for run in map(RunFolder, folders):
        try:
            own = run.plan_document.get("id_prefix", "")
        except RunError:
            own = ""
        if not own or _load_of(own) == load:
            yield run


def _load_of(prefix: str) -> str:
    """Returns what the ids of a load begin with, of all its drivers and callers: ``1f3a`` of ``1f3a.0``."""
    return prefix.partition(".")[0]


def whole_story(request_id: str, folders: Sequence[Path], tell: Callable[[Record], dict[str, Any]]) -> dict[str, Any]:
    """Returns the story of a request, and the ``tree`` that it is a part of; of a whole page the tree alone.

    Args:
        request_id: of the request, or of a page.
        folders: of the runs.
        tell: returns the story of a record.

    Raises:
        InputError: none of the runs has it.
        RunError: a folder cannot be read.
    """
    part_of = tree(request_id, folders)
    try:
        _, record = find(request_id, folders)
    except InputError:
        if part_of is None:
            raise
        return {"tree": part_of}
    return {**tell(record), "tree": part_of}


def story(
    record: Record, table: Mapping[str, Any] | None, lines: Sequence[LogLine], logging: Collection[str] = ()
) -> dict[str, Any]:
    """Returns a request as JSON.

    Args:
        record: of the request.
        table: the route table of its revision; None if it has none, or that is not known.
        lines: that units logged about it.
        logging: roles whose units log requests.
    """
    context = {name: value for name in _CONTEXT if (value := getattr(record, name))}
    return {
        "request": {name: getattr(record, name) for name in _REQUEST},
        "context": context,
        "command": _command(record, context),
        "decision": {
            "routing_key": record.routing_key,
            "revision": record.revision,
            **_rules(record, context, table),
            "asked": _asked(record, lines, logging),
        },
        "answer": {name: getattr(record, name) for name in _ANSWER},
        "times_ms": {
            "sent after it was due": (record.sent_ns - record.intended_ns) / _NS_PER_MS,
            "first item": record.first_item_ns / _NS_PER_MS if record.first_item_ns else None,
            "done after it was due": (record.done_ns - record.intended_ns) / _NS_PER_MS,
        },
        "proof": _proof(record),
        "hops": _hops(record, lines),
    }


def _command(record: Record, context: Mapping[str, str]) -> list[str]:
    """The words of the command that explains the same decision."""
    pairs = [f"--context={name}={value}" for name, value in context.items()]
    return ["routes", "explain", record.use_case, f"--caller={record.caller}", f"--user={record.user_id}", *pairs]


def _rules(record: Record, context: Mapping[str, str], table: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `lab routes explain` says by the revision that decided."""
    if table is None:
        refused = "its revision is not known: it failed before anything was decided"
        return {"rule": "", "rules": [], "reads": {}, "refused": refused}
    asked = {"user_id": record.user_id, "caller": record.caller, **context}
    try:
        explanation = explain(Router.of_document(dict(table), record.revision), record.use_case, asked)
    except NoDecisionError as error:
        return {"rule": "", "rules": [], "reads": {}, "refused": str(error)}
    rules = [{"rule": each.rule, "matched": each.matched, "reason": each.reason} for each in explanation.rules]
    reads = {name: asked.get(name, "") for name in explanation.choice.reads}
    return {"rule": explanation.choice.rule, "rules": rules, "reads": reads, "refused": ""}


def _asked(record: Record, lines: Sequence[LogLine], logging: Collection[str]) -> str:
    """Whether a resolver was asked for this request: ``yes``, ``no`` for a lease, ``unknown``; empty without one."""
    asks = TOPOLOGIES[record.topology].asks if record.topology in TOPOLOGIES else ()
    if not asks or not record.routing_key:
        return ""
    if any(line.role in asks for line in lines):
        return "yes"
    return "no" if set(asks) <= set(logging) else "unknown"


def _proof(record: Record) -> dict[str, Any] | None:
    """The score that came, and the one that only this version gives this user for this item."""
    if record.status != "OK" or not record.model:
        return None
    expected = score_of(record.model, record.version, record.user_id, record.item_id)
    return {"item": record.item_id, "score": record.score, "expected": expected, "proved": record.score == expected}


def _hops(record: Record, lines: Sequence[LogLine]) -> list[dict[str, Any]]:
    """What each unit logged, with its beginning after the caller's sending, ms."""
    sent_s = record.sent_ns / _NS
    return [
        {
            "unit": line.unit,
            "role": line.role,
            "at_ms": 1e3 * (line.began_s - sent_s),
            "ms": line.fields["ms"],
            "status": str(line.fields["status"]),
        }
        for line in lines
    ]
