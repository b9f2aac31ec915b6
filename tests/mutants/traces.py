"""``python -m tests.mutants.traces LAB TOPOLOGY``: compares the traces of a lab's last run with its records."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise

from lab.client.traces import Span
from lab.history import Record
from lab.lab import Lab
from lab.runs.folder import RunFolder
from lab.runtime.state import LabState
from lab.topologies import TOPOLOGIES

COMPARED = 12
_SLACK_NS = 2_000_000


def objections(record: Record, spans: list[Span], path: tuple[str, ...], roles: dict[str, str]) -> Iterator[str]:
    """Yields what is wrong with the spans of a request that a model answered.

    Args:
        record: of the request.
        spans: of its trace, from the lab's collector.
        path: roles of the units that it passes, the caller first and the model last.
        roles: by the unit's name.
    """
    by_id = {span.span_id: span for span in spans}
    roots = [span for span in spans if span.parent_id not in by_id]
    if [(roles.get(each.unit), each.kind) for each in roots] != [("caller", "internal")]:
        yield f"roots {[(each.unit, each.name) for each in roots]}, not the caller's alone"
        return
    yield from _of_caller(record, roots[0])
    answered = [
        each
        for each in spans
        if (each.unit, each.kind, each.attributes.get("lab.routing_key"))
        == (record.replica, "server", record.routing_key)
    ]
    if len(answered) != record.attempts:
        yield f"{len(answered)} spans of {record.replica}, which got {record.attempts} attempts"
    for span in answered[:1]:
        yield from _on_path(span, by_id, path, roles)
    if failed := [each.unit for each in spans if each.error]:
        yield f"spans of {failed} failed"


def _of_caller(record: Record, span: Span) -> Iterator[str]:
    wanted = {"lab.request_id": record.request_id, "lab.use_case": record.use_case, "lab.revision": record.revision}
    own = {name: value for name, value in span.attributes.items() if name in wanted}
    if own != wanted:
        yield f"the caller's span says {own}, not {wanted}"
    took_ms = (record.done_ns - record.sent_ns) / 1e6
    if span.ms > took_ms + _SLACK_NS / 1e6:
        yield f"the caller's span took {span.ms:.1f} ms, the request {took_ms:.1f}"


def _on_path(span: Span, by_id: dict[str, Span], path: tuple[str, ...], roles: dict[str, str]) -> Iterator[str]:
    passed = [span]
    while (parent := by_id.get(passed[-1].parent_id)) is not None:
        passed.append(parent)
    units = [each.unit for each in reversed(passed)]
    found = [roles.get(unit, "") for unit, after in pairwise([*units, ""]) if unit != after]
    if tuple(found) != path:
        yield f"passed {found}, not {list(path)}"
    for part, whole in pairwise(passed):
        if part.kind == "server" and whole.kind != "client":
            yield f"a span of {part.unit} is a part of one of {whole.unit} that is not a call"
        if part.start_ns < whole.start_ns - _SLACK_NS or _end_ns(part) > _end_ns(whole) + _SLACK_NS:
            yield f"the span of {part.unit} is not within that of {whole.unit}"


def _end_ns(span: Span) -> int:
    return span.start_ns + round(span.ms * 1e6)


def main(name: str, topology: str) -> None:
    """Prints what is wrong with the first trace that has something wrong, and exits with status 1."""
    lab = Lab(name)
    roles = {unit.name: unit.role for unit in LabState.of(lab.folder).plan.units}
    records = [each for each in RunFolder(lab.runs / "latest").history if each.status == "OK" and not each.streamed]
    for record in records[:: max(1, len(records) // COMPARED)]:
        for objection in objections(record, lab.trace(record.request_id), TOPOLOGIES[topology].path, roles):
            sys.exit(f"trace of {record.request_id}: {objection}")


if __name__ == "__main__":
    main(*sys.argv[1:])
