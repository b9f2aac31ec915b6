"""A page of a run as the tree of its calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lab.checkers.kinds.path import hops_in
from lab.history.record import FIELDS

_MS = 1_000_000


class _Step(NamedTuple):
    """A call, or a part of a page, which has steps; times are milliseconds from the page's due time."""

    name: str
    id: str
    detail: str
    began_ms: float
    took_ms: float
    status: str
    steps: Sequence[_Step] = ()

    @property
    def ended_ms(self) -> float:
        return self.began_ms + self.took_ms

    def to_document(self) -> dict[str, Any]:
        own = {"name": self.name, "id": self.id, "answered_by": self.detail, "status": self.status}
        times = {"began_ms": round(self.began_ms, 3), "took_ms": round(self.took_ms, 3)}
        return {**own, **times, **({"steps": [each.to_document() for each in self.steps]} if self.steps else {})}


def tree_of(evidence: Mapping[str, Any], plan: Mapping[str, Any], name: str = "") -> dict[str, Any] | None:
    """Returns a page, as JSON data; None if the run has no such page.

    Args:
        evidence: what the checker ``page`` has gathered.
        plan: of the run, as its document.
        name: id of the page, or of a part or a call of it; the slowest page of the run if empty.
    """
    settings = plan["engine"]["settings"]
    answered = [page for page in evidence["pages"] if page["sent_ns"]]
    if name:
        answered = [page for page in answered if _number(page["request_id"]) == _number(name)]
    if not answered or (name and not name.startswith(settings["run"])):
        return None
    page = max(answered, key=lambda each: each["done_ns"] - each["intended_ns"])
    return _document(page, evidence, settings)


def _document(page: Mapping[str, Any], evidence: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    number, began_ns = _number(page["request_id"]), page["intended_ns"]
    steps: dict[str, _Step] = {}
    for row in evidence["calls"]:
        call = dict(zip(FIELDS, row, strict=True))
        if _number(call["request_id"]) == number:
            by = f"{call['model']}@{call['version']} on {call['replica']}" if call["replica"] else call["message"]
            step = _step(call["use_case"], call["request_id"], by, call, began_ns)
            steps[call["request_id"].rpartition("-")[2].partition(".")[2]] = step
    parts = [each for each in evidence["built"] if _number(each["id"]) == number]
    for part in sorted(parts, key=lambda each: -len(each["id"])):  # the innermost first
        place = part["id"].rpartition("-")[2].partition(".")[2]
        own = {each: steps.pop(each) for each in [*steps] if not place or each.startswith(f"{place}.")}
        inner = [own[each] for each in sorted(own, key=_steps)]
        steps[place] = _step(part["caller"], part["id"], "", part, began_ns)._replace(steps=inner)
    whole = steps[""].steps if "" in steps else [steps[each] for each in sorted(steps, key=_steps)]
    return {
        "id": page["request_id"],
        "caller": page["caller"],
        "via": [hop.unit for hop in hops_in(page.get("via", ""))],
        "user_id": page["user_id"],
        "status": page["status"],
        "took_ms": round((page["done_ns"] - began_ns) / _MS, 3),
        "timeout_ms": settings["timeout_ms"],
        "critical_path": [each.id for each in _critical(whole)],
        "steps": [each.to_document() for each in whole],
    }


def _step(name: str, step_id: str, detail: str, times: Mapping[str, Any], began_ns: int) -> _Step:
    began_ms, took_ms = (times["sent_ns"] - began_ns) / _MS, (times["done_ns"] - times["sent_ns"]) / _MS
    return _Step(name, step_id, detail, began_ms, took_ms, times["status"])


def _critical(steps: Sequence[_Step]) -> Iterator[_Step]:
    """Yields the calls that the page waited for, one after the other: of each stage the one that ended last."""
    stages: dict[str, _Step] = {}
    for each in steps:
        stage = each.id.rpartition(".")[0].rpartition(".")[2]
        if stage not in stages or each.ended_ms > stages[stage].ended_ms:
            stages[stage] = each
    for each in stages.values():
        yield from _critical(each.steps) if each.steps else [each]


def _number(name: str) -> str:
    """The number of the page that an id belongs to, as the id has it."""
    return name.rpartition("-")[2].partition(".")[0]


def _steps(place: str) -> tuple[int, ...]:
    return tuple(map(int, place.split(".")))
