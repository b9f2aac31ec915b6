"""``lab page``: one page of a run, as the tree of its calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from lab.checkers.kinds.path import hops_in
from lab.cli.options import Json, Name
from lab.cli.output import console, print_json, table
from lab.errors import InputError
from lab.history.record import FIELDS
from lab.lab import Lab
from lab.plugins.pages.engine import CHECKER
from lab.runs.folder import RunFolder
from lab.runs.parallel import runs_in

_MS = 1_000_000
_BAR = 24


class _Step(NamedTuple):
    """A call, or a part of a page with steps of its own; times are milliseconds from the page's due time."""

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


def page(
    page_id: Annotated[
        str, typer.Argument(help="Id of a page, or of a call of one; the slowest page of the run if left out.")
    ] = "",
    run: Annotated[Path | None, typer.Option(help="Folder of the run; the latest of the lab if left out.")] = None,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show one page of a run as a tree: who called whom, when, for how long, and which calls the page waited for.

    The lab need not be up; `lab load --page` makes such runs.

    Example: lab page 1f3a90c2-0000002c
    """
    folder = run or Lab(name).runs / "latest"
    found = _page(folder, page_id)
    if as_json:
        print_json(found)
        return
    by = "".join(f", by {unit}" for unit in found["via"])
    head = f"page {found['id']} of {found['caller']}{by}, for user {found['user_id']}: {found['status']}"
    console.print(f"{head}, {found['took_ms']:.2f} ms of {found['timeout_ms']}", markup=False)
    rows = _rows(found["steps"], found["took_ms"], frozenset(found["critical_path"]))
    console.print(table(("call", "ms", "when", "answered by"), list(rows), right=("ms",)))
    console.print(f"* the page waited for these: {' → '.join(map(_last, found['critical_path']))}", markup=False)


def _page(folder: Path, page_id: str) -> dict[str, Any]:
    """Returns a page of a run, as JSON data.

    Raises:
        InputError: the run has no pages, or not this one.
    """
    for each in runs_in(folder.resolve()):
        run = RunFolder(each)
        evidence = run.gathered.get(CHECKER)
        if evidence is not None:
            break
    else:
        raise InputError(f"{folder}: has no pages; `lab load --page CALLER` asks for some")
    settings = run.plan_document["engine"]["settings"]
    answered = [page for page in evidence["pages"] if page["sent_ns"]]
    if page_id:
        answered = [page for page in answered if _number(page["request_id"]) == _number(page_id)]
    if not answered or (page_id and not page_id.startswith(settings["run"])):
        raise InputError(f"{page_id or 'a page'}: is not in {folder}; `lab check` names pages, and so do models' logs")
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


def _rows(
    steps: Sequence[Mapping[str, Any]], whole_ms: float, critical: frozenset[str], depth: int = 0
) -> Iterator[tuple[str, str, str, str]]:
    for each in steps:
        waited = "*" if each["id"] in critical else " "
        answered = each["answered_by"] if each["status"] == "OK" else f"{each['status']}: {each['answered_by']}"
        bar = _bar(each["began_ms"], each["took_ms"], whole_ms)
        yield f"{'  ' * depth}{waited} {each['name']}", f"{each['took_ms']:.2f}", bar, answered.removesuffix(": ")
        yield from _rows(each.get("steps", ()), whole_ms, critical, depth + 1)


def _bar(began_ms: float, took_ms: float, whole_ms: float) -> str:
    at = [max(0, min(_BAR, round(_BAR * each / max(whole_ms, 0.001)))) for each in (began_ms, began_ms + took_ms)]
    width = max(1, at[1] - at[0])
    return f"{'·' * min(at[0], _BAR - width)}{'━' * width}".ljust(_BAR, "·")


def _number(name: str) -> str:
    """The number of the page that an id belongs to, as the id has it."""
    return name.rpartition("-")[2].partition(".")[0]


def _steps(place: str) -> tuple[int, ...]:
    return tuple(map(int, place.split(".")))


def _last(name: str) -> str:
    return name.partition(".")[2] or name
