"""``make figures``: measures what README and docs quote, from scratch, writes it into them, and says what has changed.

Every figure is kept in ``docs/figures.json`` with its interval, its rounds and the machine that it was measured on. A
page quotes one by its name, between marks (see :mod:`docs.site.blocks`). What is measured anew is held against what
stood there: a figure whose new estimate lies outside of the interval that was stated has *left* it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs.site import memory, travels
from docs.site.blocks import pages, write
from docs.site.links import CHECKOUT, PAGES
from lab.errors import LabError, UnitError
from lab.measure.findings import GROUND, written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FIGURES = PAGES / "figures.json"
PICTURES = PAGES / "figures"
BENCHES = ("encodings", "topologies", "decomposition", "capacity")
# What a bench says by its exit status: all holds, a claim does not, one is unknown. The figures are there each time.
_MEASURED = (0, 1, 2)
_SAME = 0.001
_NOTHING = "*Nothing was measured yet: `make figures` does.*"


@dataclass(frozen=True, slots=True)
class Change:
    """A figure that was measured anew.

    Attributes:
        name: as pages quote it.
        before: its estimate with its interval, as it was stated; empty if it is new.
        after: the same now.
        left: whether the new estimate lies outside of the interval that was stated.
        doubted: whether the bench itself says that it shows nothing; then it has not left anything either.
    """

    name: str
    before: str
    after: str
    left: bool
    doubted: bool


def figures_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a bench: where and when it ran, its claims by name, its tables."""
    ran = document["ran"]
    claims = {
        _slug(claim["text"]): {
            "text": claim["text"],
            **claim["figure"],
            "at_least": claim["at_least"],
            "at_most": claim["at_most"],
            "state": claim["state"],
            "doubts": claim["doubts"],
        }
        for claim in document["claims"]
    }
    return {"ran": ran, "figures": claims, "tables": document["tables"]}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Every figure that was measured anew, against what stood there."""
    old, new = dict(_each(before)), dict(_each(after))
    found = []
    for name, figure in new.items():
        known = old.get(name)
        doubted = bool(figure["doubts"])
        left = known is not None and not doubted and not _within(figure["estimate"], known)
        found.append(Change(name, _quoted(known) if known else "", _quoted(figure), left, doubted))
    return found


def texts(kept: Mapping[str, Any]) -> dict[str, str]:
    """All that pages may quote, by name: each figure, the same roughly (``….about``), and a block for each bench."""
    quotes = {name: _quoted(figure) for name, figure in _each(kept)}
    rough = {f"{name}.about": _about(figure["estimate"]) for name, figure in _each(kept)}
    nothing = {f"figures.{bench}": _NOTHING for bench in (*BENCHES, "memory")}
    return quotes | rough | nothing | {f"figures.{bench}": _block(bench, found) for bench, found in kept.items()}


def put_into_pages(kept: Mapping[str, Any]) -> list[Path]:
    """Writes figures into all pages that quote them, and returns those that have changed."""
    known = texts(kept)
    return [page for page in pages() if write(page, known)]


def read(file: Path = FIGURES) -> dict[str, Any]:
    """The figures that are kept; none if nothing was measured yet."""
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return kept


def _within(estimate: float, stated: Mapping[str, Any]) -> bool:
    """Whether it lies in the interval that was stated; one of bytes that are always the same has no width."""
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


def _about(value: float) -> str:
    """Two significant digits."""
    return f"{float(f'{value:.2g}'):,g}"


def _block(bench: str, found: Mapping[str, Any]) -> str:
    rows = [f"| {figure['text']} | {_quoted(figure)} | {_bound(figure)} |" for figure in found["figures"].values()]
    parts = ["\n".join(("| figure | median [interval] | claimed |", "|---|---|---|", *rows))] if rows else []
    parts += [_table(each) for each in found["tables"]]
    parts += [f"![{bench}: {path.stem}](figures/{path.name})" for path in sorted(PICTURES.glob(f"{bench}-*.svg"))]
    return "\n\n".join((*parts, f"*{_ran(found['ran'])}*"))


def _table(table: Mapping[str, Any]) -> str:
    rule = "".join("---:|" if column in table["numbers"] else "---|" for column in table["columns"])
    rows = ("".join(f" {cell if isinstance(cell, str) else written(cell)} |" for cell in row) for row in table["rows"])
    heading = "".join(f" {column} |" for column in table["columns"])
    return "\n".join((f"{table['title']}:", "", f"|{heading}", f"|{rule}", *(f"|{row}" for row in rows)))


def _bound(figure: Mapping[str, Any]) -> str:
    bounds = [
        f"{sign} {figure[end]:g}" for sign, end in (("≥", "at_least"), ("≤", "at_most")) if figure[end] is not None
    ]
    return f"{' and '.join(bounds)}: {figure['state']}" if bounds else "–"


def _ran(ran: Mapping[str, Any]) -> str:
    ground = ", ".join(f"{name} {ran['machine'][name]}" for name in GROUND if name in ran["machine"])
    day = ran["started"].replace("T", " ").removesuffix("+00:00")
    return f"{ran['rounds']} rounds in {ran['took_s']:.0f} s, begun {day} UTC; {ground}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _measure(benches: Sequence[str], rounds: int) -> dict[str, Any]:
    """Runs benches by the lab's own command, and keeps their charts."""
    command = [str(Path(sys.executable).parent / "lab"), "bench", *benches, "--rounds", str(rounds), "--json"]
    done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in _MEASURED or not done.stdout:
        raise UnitError(f"{' '.join(command[1:])}: exit status {done.returncode}")
    document = json.loads(done.stdout)
    PICTURES.mkdir(exist_ok=True)
    for bench in benches:
        for old in PICTURES.glob(f"{bench}-*.svg"):
            old.unlink()
        for picture in Path(document["run_dir"]).glob(f"{bench}-*.svg"):
            shutil.copy(picture, PICTURES)
    return {each["name"]: figures_of(each) for each in document["benches"]}


def _say(found: Sequence[Change], before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for change in found:
        mark = "doubt" if change.doubted else "new" if not change.before else "LEFT" if change.left else "kept"
        was = f", was {change.before}" if change.before else ""
        print(f"{mark:<5}{change.name}: {change.after}{was}")  # noqa: T201 (a command prints)
    machines = [{_ran(each["ran"]).partition("; ")[2] for each in kept.values()} for kept in (before, after)]
    if before and machines[0] != machines[1]:
        print(f"measured on another machine: {machines[0]} before, {machines[1]} now")  # noqa: T201
    left = sum(change.left for change in found)
    doubted = sum(change.doubted for change in found)
    print(f"{len(found)} figures; {left} left the interval that was stated, {doubted} are in doubt")  # noqa: T201
    if doubted:
        print("in doubt: let the machine do nothing else, and measure again before these are kept")  # noqa: T201


def main() -> None:
    """Measures, writes, compares."""
    parser = argparse.ArgumentParser(prog="make figures", description="Regenerates every figure that is quoted.")
    parser.add_argument("--rounds", type=int, default=10, help="interleaved rounds of each bench, 3 or more [10]")
    parser.add_argument(
        "--only", nargs="*", default=BENCHES, metavar="BENCH", help=f"some of {', '.join(BENCHES)}, or none"
    )
    parser.add_argument("--quote", action="store_true", help="measure nothing: write what is kept into the pages")
    arguments = parser.parse_args()
    before = read()
    after = before
    if not arguments.quote:
        os.environ.setdefault("LAB_RUNTIME", "process")
        try:
            found = _measure(arguments.only, arguments.rounds) if arguments.only else {}
            found["memory"] = memory.measure()
            travels.main()
        except LabError as error:
            sys.exit(f"make figures: {error}")
        after = {**before, **found}
        FIGURES.write_text(json.dumps(after, indent=1, ensure_ascii=False) + "\n")
        _say(changes(before, found), before, found)
    for page in put_into_pages(after):
        print(f"written: {page.relative_to(CHECKOUT)}")  # noqa: T201


if __name__ == "__main__":
    main()
