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
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs.site import memory, proxies, scale, since, travels
from docs.site.age import commit_of
from docs.site.blocks import marked, pages, write
from docs.site.links import CHECKOUT, PAGES
from lab.errors import LabError, UnitError
from lab.measure.findings import GROUND, written
from lab.runs.folder import machine_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

FIGURES = PAGES / "figures.json"
PICTURES = PAGES / "figures"
SUITES = CHECKOUT / "lab" / "bench" / "suites"
# What is measured without a bench, and its number of rounds if it has any.
OTHERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "memory": lambda _: memory.measure(),
    "proxies": proxies.measure,
    "scale": lambda _: scale.measure(),
}
# Exit statuses of a bench that has figures: all claims hold, one does not, one is undecided.
_MEASURED = (0, 1, 2)
_SAME = 0.001
_NOTHING = "*Not measured yet: run `make figures`.*"


def quoted_benches() -> list[str]:
    """Returns the benches of which a page quotes a figure, or has the block."""
    names = {name for page in pages() for name in marked(page, "figure", "block")}
    suites = {name.removeprefix("figures.").partition(".")[0] for name in names}
    return sorted(each for each in suites if (SUITES / f"{each.replace('-', '_')}.py").exists())


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


def figures_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a bench's document that is kept: where and when it ran, its claims by name, its tables."""
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
    """All texts that pages may quote, by name: each figure, the same rounded (``….about``), and a block per bench."""
    quotes = {name: _quoted(figure) for name, figure in _each(kept)}
    rough = {f"{name}.about": _about(figure["estimate"]) for name, figure in _each(kept)}
    history = {"figures.since": since.block(since.history())}
    nothing = {f"figures.{bench}": _NOTHING for bench in (*quoted_benches(), *OTHERS)}
    return (
        quotes | rough | history | nothing | {f"figures.{bench}": _block(bench, found) for bench, found in kept.items()}
    )


def put_into_pages(kept: Mapping[str, Any]) -> list[Path]:
    """Writes figures into all pages that quote them, and returns the pages that changed."""
    known = texts(kept)
    return [page for page in pages() if write(page, known)]


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
    day = ran["started"].replace("T", " ").removesuffix("+00:00")
    how = ", ".join(filter(None, [f"`{ran['command']}`" if "command" in ran else "", _at(ran)]))
    return f"{ran['rounds']} rounds in {ran['took_s']:.0f} s, begun {day} UTC; {_ground(ran)}{how and '; ' + how}"


def _ground(ran: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {ran['machine'][name]}" for name in GROUND if name in ran["machine"])


def _at(ran: Mapping[str, Any]) -> str:
    commit = commit_of(ran)
    return f"commit {commit}" if commit else ""


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _measure(benches: Sequence[str], rounds: int) -> dict[str, Any]:
    """Runs benches with the lab's own command, and keeps their charts."""
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
    found = {each["name"]: figures_of(each) for each in document["benches"]}
    for bench, measured in found.items():
        measured["ran"]["command"] = f"lab bench {bench} --rounds {rounds}"
    return found


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


def main() -> None:
    """Measures, writes, compares."""
    parser = argparse.ArgumentParser(prog="make figures", description="Measures every figure that pages quote.")
    parser.add_argument("--rounds", type=int, default=14, help="interleaved rounds of each bench, 3 or more [14]")
    quoted = [*quoted_benches(), *OTHERS]
    parser.add_argument(
        "--only", nargs="*", default=quoted, metavar="BENCH", help=f"some of {', '.join(quoted)}, or none"
    )
    parser.add_argument("--quote", action="store_true", help="measure nothing; write the kept figures into the pages")
    arguments = parser.parse_args()
    before = read()
    after = before
    if not arguments.quote:
        os.environ.setdefault("LAB_RUNTIME", "process")
        try:
            benches = [each for each in arguments.only if each not in OTHERS]
            found = _measure(benches, arguments.rounds) if benches else {}
            found |= {
                name: _timed(partial(OTHERS[name], arguments.rounds)) for name in arguments.only if name in OTHERS
            }
            travels.main()
        except LabError as error:
            sys.exit(f"make figures: {error}")
        after = {**before, **found}
        FIGURES.write_text(json.dumps(after, indent=1, ensure_ascii=False) + "\n")
        say(changes(before, found), before, found)
    since.draw(since.history())
    for page in put_into_pages(after):
        print(f"written: {page.relative_to(CHECKOUT)}")  # noqa: T201


if __name__ == "__main__":
    main()
