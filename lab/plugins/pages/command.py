"""``lab page``: one page of a run, as the tree of its calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.cli.options import Json, Name
from lab.cli.output import console, print_json, table
from lab.errors import InputError
from lab.lab import Lab
from lab.plugins.pages.engine import CHECKER
from lab.plugins.pages.tree import tree_of
from lab.runs.folder import RunFolder
from lab.runs.parallel import runs_in

_BAR = 24


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
    found = tree_of(evidence, run.plan_document, page_id)
    if found is None:
        raise InputError(f"{page_id or 'a page'}: is not in {folder}; `lab check` names pages, and so do models' logs")
    return found


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


def _last(name: str) -> str:
    return name.partition(".")[2] or name
