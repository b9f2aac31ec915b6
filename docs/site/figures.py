"""``make figures``: measures every figure that README and docs quote, writes them into the pages, and lists changes.

``docs/figures.json`` keeps every figure with its interval, its rounds and its machine. A page quotes a figure by its
name, between marks (see :mod:`docs.site.blocks`). A figure whose new estimate is outside of the previously stated
interval has *left* it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from docs.site import memory, proxies, routers, scale, since, travels
from docs.site.age import commit_of, is_changed
from docs.site.blocks import marked, pages, write
from docs.site.links import CHECKOUT, PAGES
from docs.site.measuring import Measured, bound_of, failing, figures_of, measure, slug
from lab.errors import LabError
from lab.measure.findings import GROUND, in_two_digits, written
from lab.plugins.bench.harness.bench import BENCHES, ROUNDS
from lab.runs.version import machine_versions

FIGURES = PAGES / "figures.json"
TABLES = PAGES / "records" / "figures.md"
PICTURES = PAGES / "figures"
# What is measured without a bench, by its number of rounds if it has any.
OTHERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "memory": lambda _: memory.measure(),
    "proxies": proxies.measure,
    "routers": lambda _: routers.measure(),
    "scale": lambda _: figures_of(scale.measure()),
}
_TABLES = """# Tables of figures

What each bench measured, beside the claims on the page of [figures](../figures.md). `make figures` writes this page."""
_SAME = 0.001
_NOTHING = "*Not measured yet: run `make figures`.*"


def quoted_benches() -> list[str]:
    """Returns the benches of which a page quotes a figure, or has the block."""
    names = {name for page in pages() for name in marked(page, "figure", "block")}
    benches = {name.removeprefix("figures.").partition(".")[0] for name in names}
    return sorted(benches & BENCHES.keys())


@dataclass(frozen=True, slots=True)
class Change:
    """A figure that was measured again.

    Attributes:
        name: as pages quote it.
        before: previous estimate with its interval; empty if the figure is new.
        after: new estimate with its interval.
        left: whether the new estimate is outside of the previous interval.
        doubted: whether the bench itself doubts the figure; then it cannot have left the interval.
    """

    name: str
    before: str
    after: str
    left: bool
    doubted: bool


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compares every new figure with the previous one."""
    old, new = dict(_each(before)), dict(_each(after))
    found = []
    for name, figure in new.items():
        known = old.get(name)
        doubted = bool(figure["doubts"])
        left = known is not None and not doubted and not _within(figure["estimate"], known)
        found.append(Change(name, _quoted(known) if known else "", _quoted(figure), left, doubted))
    return found


def texts(kept: Mapping[str, Any]) -> dict[str, str]:
    """All texts that pages may quote, by name: figures, the same rounded (``….about``), and a block per bench.

    A table is ``figures.BENCH.`` and its title up to the first comma or parenthesis.
    """
    quotes = {name: _quoted(figure) for name, figure in _each(kept)}
    rough = {f"{name}.about": in_two_digits(figure["estimate"]) for name, figure in _each(kept)}
    history = {"figures.since": since.block(since.history())}
    nothing = {f"figures.{bench}": _NOTHING for bench in (*quoted_benches(), *OTHERS)}
    tables = {
        f"figures.{bench}.{slug(re.split('[,(]', table['title'])[0])}": _table(table)
        for bench, found in kept.items()
        for table in found["tables"]
    }
    blocks = {f"figures.{bench}": _block(bench, found) for bench, found in kept.items()}
    return quotes | rough | history | nothing | tables | blocks


def put_into_pages(kept: Mapping[str, Any]) -> list[Path]:
    """Writes figures into all pages that quote them, and all tables into theirs; returns the pages that changed."""
    known = texts(kept)
    changed = [page for page in pages() if write(page, known)]
    if TABLES.read_text() != (tables := tables_page(kept)):
        TABLES.write_text(tables)
        changed.append(TABLES)
    return changed


def tables_page(kept: Mapping[str, Any]) -> str:
    """The page with every table of every bench."""
    parts = [_TABLES]
    for bench, found in kept.items():
        if found["tables"]:
            tables = (_table(each).replace("](", "](../") for each in found["tables"])
            parts += [f"## {bench}", *tables, f"*{_ran(found['ran'])}*"]
    return "\n\n".join(parts) + "\n"


def read(file: Path = FIGURES) -> dict[str, Any]:
    """The kept figures; none if nothing was measured yet."""
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return kept


def _within(estimate: float, stated: Mapping[str, Any]) -> bool:
    """Whether an estimate is in the stated interval; the slack is for byte counts, whose interval is a point."""
    slack = _SAME * abs(stated["estimate"])
    return bool(stated["low"] - slack <= estimate <= stated["high"] + slack)


def _each(kept: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for bench, found in kept.items():
        for name, figure in found["figures"].items():
            yield f"{bench}.{name}", figure


def _quoted(figure: Mapping[str, Any]) -> str:
    estimate, low, high = (written(figure[end]) for end in ("estimate", "low", "high"))
    doubt = " (in doubt)" if figure.get("doubts") else ""
    return f"{estimate} [{low}, {high}]{doubt}"


def _block(bench: str, found: Mapping[str, Any]) -> str:
    rows = [f"| {figure['text']} | {_quoted(figure)} | {_claimed(figure)} |" for figure in found["figures"].values()]
    parts = ["\n".join(("| figure | median [interval] | claimed |", "|---|---|---|", *rows))] if rows else []
    parts += [f"![{bench}: {path.stem}](figures/{path.name})" for path in sorted(PICTURES.glob(f"{bench}-*.svg"))]
    tables = f"[All its tables](records/figures.md#{bench}). " if found["tables"] else ""
    return "\n\n".join((*parts, f"{tables}*{_ran(found['ran'])}*"))


def _table(table: Mapping[str, Any]) -> str:
    rule = "".join("---:|" if column in table["numbers"] else "---|" for column in table["columns"])
    rows = ("".join(f" {cell if isinstance(cell, str) else written(cell)} |" for cell in row) for row in table["rows"])
    heading = "".join(f" {column} |" for column in table["columns"])
    return "\n".join((f"{table['title']}:", "", f"|{heading}", f"|{rule}", *(f"|{row}" for row in rows)))


def _claimed(figure: Mapping[str, Any]) -> str:
    if not (bound := bound_of(figure)):
        return "–"
    needed = figure.get("rounds_needed")
    return f"{bound}: {figure['state']}" + (f"; about {in_two_digits(needed)} rounds would decide" if needed else "")


def _ran(ran: Mapping[str, Any]) -> str:
    day = ran["started"].replace("T", " ").removesuffix("+00:00")
    how = ", ".join(filter(None, [f"`{ran['command']}`" if "command" in ran else "", _at(ran)]))
    return f"{ran['rounds']} rounds in {ran['took_s']:.0f} s, begun {day} UTC; {_ground(ran)}{how and '; ' + how}"


def _ground(ran: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {ran['machine'][name]}" for name in GROUND if name in ran["machine"])


def _at(ran: Mapping[str, Any]) -> str:
    commit, changed = commit_of(ran), " with uncommitted changes" if is_changed(ran) else ""
    return f"commit {commit}{changed}" if commit else ""


def _timed(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is measured without a bench, with when and where it was."""
    started, began = datetime.now(UTC), time.monotonic()
    measured = measure()
    when = {"started": started.isoformat(timespec="seconds"), "took_s": round(time.monotonic() - began, 1)}
    return {**measured, "ran": {**when, **measured["ran"], "machine": machine_versions({"runtime": "process"})}}


def say(found: Sequence[Change], before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Prints what has changed from the kept figures to the new ones."""
    for change in found:
        mark = "doubt" if change.doubted else "new" if not change.before else "LEFT" if change.left else "kept"
        was = f", was {change.before}" if change.before else ""
        print(f"{mark:<5}{change.name}: {change.after}{was}")  # noqa: T201 (a command prints)
    then, now = ({_ground(kept[bench]["ran"]) for bench in after if bench in kept} for kept in (before, after))
    if then and then != now:
        print(f"measured on another machine: {' and '.join(sorted(then))} before, {' and '.join(now)} now")  # noqa: T201
    left = sum(change.left for change in found)
    doubted = sum(change.doubted for change in found)
    print(f"{len(found)} figures; {left} left their stated interval, {doubted} are in doubt")  # noqa: T201
    if doubted:
        print("in doubt: measure again on an otherwise idle machine before you keep these figures")  # noqa: T201


def _save(measured: Measured, before: Mapping[str, Any]) -> dict[str, Any]:
    """Saves figures and charts, and returns all that is kept.

    It comes last: a bench's figures say whether the tree that it measured had uncommitted changes.
    """
    PICTURES.mkdir(exist_ok=True)
    for bench, folder in measured.folders.items():
        for old in PICTURES.glob(f"{bench}-*.svg"):
            old.unlink()
        for picture in folder.glob(f"{bench}-*.svg"):
            shutil.copy(picture, PICTURES)
    kept = {**before, **measured.kept}
    FIGURES.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return kept


def _measure(names: Sequence[str], rounds: int | None) -> Measured:
    measured = measure([each for each in names if each not in OTHERS], rounds, print)
    for name in names:
        if name in OTHERS:
            try:
                measured.kept[name] = _timed(partial(OTHERS[name], rounds or ROUNDS))
            except LabError as error:
                measured.problems.append(f"{name}: {error}")
    return measured


def main() -> None:
    """Measures, writes, compares. Exit status 1 if a claim does not hold, or something was not measured."""
    parser = argparse.ArgumentParser(prog="make figures", description="Measures every figure that pages quote.")
    parser.add_argument(
        "--rounds",
        type=int,
        help="interleaved rounds of each bench, 3 or more; each one's own if left out, and more where undecided",
    )
    quoted = [*quoted_benches(), *OTHERS]
    parser.add_argument(
        "--only", nargs="*", default=quoted, metavar="BENCH", help=f"some of {', '.join(quoted)}, or none"
    )
    parser.add_argument("--quote", action="store_true", help="measure nothing; write the kept figures into the pages")
    arguments = parser.parse_args()
    before = read()
    after, problems = before, list[str]()
    if not arguments.quote:
        os.environ.setdefault("LAB_RUNTIME", "process")
        measured = _measure(arguments.only, arguments.rounds)
        try:
            travels.main()
        except LabError as error:
            measured.problems.append(f"travels: {error}")
        after = _save(measured, before)
        say(changes(before, measured.kept), before, measured.kept)
        problems = [*measured.problems, *failing(measured.kept)]
    since.draw(since.history())
    for page in put_into_pages(after):
        print(f"written: {page.relative_to(CHECKOUT)}")  # noqa: T201
    if problems:
        sys.exit("\n".join(f"make figures: {each}" for each in problems))


if __name__ == "__main__":
    main()
