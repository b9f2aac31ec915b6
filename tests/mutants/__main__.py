"""``python -m tests.mutants [TEXT]``: plants every bug of the catalogue, or those whose name has the text, and judges.

Each bug is put into a copy of the checkout; the copy's lab is driven by a drill, and its runs are judged by ``lab
check`` of this checkout. A bug whose runs are all valid has escaped; if a changed statement of it never ran, it was not
met. Both are failures, as is a drill that fails: exit status 1.
``--resume FILE`` keeps each trial in FILE, and leaves out those that FILE has of this commit, so that a run that was
interrupted goes on where it was.
``--also tests scenarios`` runs the copy's tests of the rooms that the bug is in, and its smoke scenarios on the bug's
topology, and shows which notice it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path, PurePath
from queue import SimpleQueue

from rich.console import Console
from rich.table import Table

from lab.errors import LabError
from tests.mutants.catalogue import CHECKOUT, Mutant, catalogue, closed
from tests.mutants.copies import copy_of, run_in
from tests.mutants.drill import PLUGINS
from tests.mutants.marks import marked
from tests.tools import run_tool

PAGE = CHECKOUT / "docs" / "records" / "planted-bugs.md"
HEAD = """\
# Planted bugs

Each bug of `tests/mutants/catalogue` was planted in a copy of the lab, the copy was driven by load, and its runs were
judged by `lab check` of the lab without the bug. *Caught by* names the checkers that called a run invalid, with their
violations; *the lab itself* is what a command or a test of the copy said that the bug stopped. `make mutants
ARGS="--page"` plants all and writes this page; it does not write it if a bug escaped or was not met, or a drill failed.

Edits of a run's files are their own class: records, plan, revisions and marks are sealed while the run is written,
and `lab check` refuses a run whose seal is broken (`tests/runs/test_seal.py` tries them).
"""
ALSO = ("tests", "scenarios")
_DRILL_S = 300
_CHECK_S = 120
_PYTEST_S = 900
NONE = Mutant(name="none", kind="as it is", file="", find="", replace="")


@dataclass(frozen=True, slots=True)
class Caught:
    """What noticed a bug.

    Attributes:
        by: ``delivery: 12``, checkers with their numbers of violations; what a command said that the bug stopped; empty
            if nothing did.
        failed: why the drill failed, though the bug stops no command; empty if it did not.
        unknown: checkers of the bug's claim that could not tell.
        unmet: the changed files of which some changed statement never ran.
        also: first test and first scenario that failed, by their kind in :data:`ALSO`; empty text if none did.
        took_s: seconds.
    """

    mutant: Mutant
    by: str = ""
    failed: str = ""
    unknown: str = ""
    unmet: str = ""
    also: dict[str, str] = field(default_factory=dict)
    took_s: float = 0.0

    @property
    def end(self) -> str:
        """Who caught it, or how the trial ended otherwise."""
        return self.by or self.failed or (f"NOT MET: {self.unmet}" if self.unmet else "ESCAPED")


@contextmanager
def planted(mutant: Mutant, copy: Path) -> Iterator[dict[Path, str]]:
    """A copy with the bug in it, mended afterwards; yields the marks of its changes, with their files."""
    marks: dict[Path, str] = {}
    for file, (text, places) in mutant.planted(CHECKOUT).items():
        for place in sorted(places, reverse=True):
            mark = copy / f"met-{len(marks)}"
            mark.unlink(missing_ok=True)
            if (with_mark := marked(text, place, mark) if file.endswith(".py") else None) is not None:
                text, marks[mark] = with_mark, file  # noqa: PLW2901 (one mark after the other)
        (copy / file).write_text(text)
    try:
        yield marks
    finally:
        for file in mutant.files:
            shutil.copyfile(CHECKOUT / file, copy / file)


def trial(mutant: Mutant, copy: Path, also: tuple[str, ...] = ()) -> Caught:
    """Plants one bug in a copy, drills it, and judges it."""
    began = time.monotonic()
    shutil.rmtree(copy / "runs", ignore_errors=True)
    with planted(mutant, copy) as marks:
        done = run_in(copy, _DRILL_S, "-m", "tests.mutants.drill", mutant.drill, mutant.topology)
        others = {kind: _failed(copy, *_pytest_arguments(kind, mutant)) for kind in also}
    unmet = ", ".join(dict.fromkeys(file for mark, file in marks.items() if not mark.exists()))
    caught = Caught(mutant, unmet=unmet, also=others, took_s=time.monotonic() - began)
    if done.returncode:
        if mutant.stops and mutant.stops in done.stderr:
            return replace(caught, by=f"the lab itself: {mutant.stops}")
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return replace(caught, failed=f"the drill failed: {lines[-1]}")
    by, unknown = [], []
    for run in done.stdout.splitlines():
        invalid, open_ = _judged(run, mutant.shows, PLUGINS.get(mutant.drill, ()))
        by += invalid
        unknown += open_
        by += [f"{each}: unknown" for each in open_ if each == mutant.leaves_unknown]
    return replace(caught, by=", ".join(by), unknown=", ".join(unknown), took_s=time.monotonic() - began)


def _pytest_arguments(kind: str, mutant: Mutant) -> tuple[str, ...]:
    """Tests of every room on the path of the bug's file, or smoke scenarios on the bug's topology."""
    if kind == "scenarios":
        return "scenarios", "-m", "smoke", "--runtime", "process", "--topology", mutant.topology
    rooms = [f"tests/{part}" for part in PurePath(mutant.files[0]).parent.parts if (CHECKOUT / "tests" / part).is_dir()]
    return tuple(rooms) or ("tests/routing",)


def _failed(copy: Path, *arguments: str) -> str:
    """Returns the first test that fails, without its folder; empty if all pass."""
    done = run_in(copy, _PYTEST_S, "-m", "pytest", *arguments, "-x", "-q", "-n", "0", "-p", "no:cacheprovider")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if done.returncode and not lines:
        lines = [f"pytest: exit {done.returncode}"]
    return lines[0].split(" ", 1)[-1].partition(" - ")[0].partition("/")[2] if lines else ""


def _judged(run: str, claim: str, plugins: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    """Returns the checkers of a claim that call a run invalid, with their violations, and those that cannot tell.

    A failure of another claim may be the machine's, such as a deadline missed while it was busy, so it shows no bug.
    """
    command = (
        sys.executable,
        "-c",
        "from lab.cli import main; main()",
        "check",
        run,
        "--json",
        "--claims",
        claim,
        *plugins,
    )
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=_CHECK_S, check=False)
    if done.returncode == 3:  # it cannot be judged
        return [f"evidence: {done.stderr.strip()[:100]}"], []
    verdicts = [each for each in json.loads(done.stdout)["verdicts"] if each["claim"] == claim]
    caught = [f"{each['checker']}: {len(each['violations'])}" for each in verdicts if each["outcome"] == "invalid"]
    return caught, [each["checker"] for each in verdicts if each["outcome"] == "unknown"]


def trials(mutants: list[Mutant], copies: list[Path], also: tuple[str, ...]) -> Iterator[Caught]:
    """Tries bugs side by side, one in each copy, and yields them in their order."""
    free: SimpleQueue[Path] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def tried(mutant: Mutant) -> Caught:
        copy = free.get()
        try:
            return trial(mutant, copy, also)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from pool.map(tried, mutants)


def table_of(caught: list[Caught], also: tuple[str, ...]) -> tuple[list[str], list[list[str]]]:
    """Returns the columns and rows of who caught what."""
    columns = ["class", "planted bug", "topology", "drill", "caught by", *also]
    return columns, [
        [
            each.mutant.kind,
            each.mutant.name,
            each.mutant.topology,
            each.mutant.drill,
            each.end,
            *(each.also[kind] or "-" for kind in also),
        ]
        for each in caught
    ]


def kept_in(file: Path | None, mutants: list[Mutant]) -> dict[Mutant, Caught]:
    """The trials that a file has of these bugs at this commit.

    Raises:
        LabError: the file is no such file.
    """
    if file is None or not file.exists():
        return {}
    of_line = {json.dumps(asdict(each), sort_keys=True): each for each in mutants}
    found = {}
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            commit, mutant, its = json.loads(line)
        except ValueError as error:
            raise LabError(f"{file}:{number}: is no trial ({error}); remove the line, or name another file") from error
        if commit == _commit()[0] and (known := of_line.get(json.dumps(mutant, sort_keys=True))):
            found[known] = Caught(known, **its)
    return found


def keep(file: Path, caught: Caught) -> None:
    """Adds a trial to a file."""
    its = asdict(caught)
    with file.open("a") as lines:
        lines.write(json.dumps([_commit()[0], its.pop("mutant"), its]) + "\n")


@cache
def _commit() -> tuple[str, str]:
    """Hash and date of the checkout's commit."""
    command = ("git", "log", "-1", "--format=%h\n%cs")
    commit, date = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split()
    return commit, date


def page(caught: list[Caught], also: tuple[str, ...]) -> str:
    """The page of all planted bugs, with the date and the commit of the trial."""
    columns, rows = table_of(caught, also)
    commit, date = _commit()
    tried = f"Tried at commit `{commit}` of {date}: {len(caught)} of {len(caught)} caught."
    classes = _markdown(["class", "how it is closed"], [list(each) for each in closed().items()])
    return f"{HEAD}\n{classes}\n\n{tried}\n\n{_markdown(columns, rows)}\n"


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _chosen(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Mutant]:
    """Returns the bugs that these options choose."""
    if options.page and (options.text or options.shard != "1/1"):
        parser.error("--page is of all bugs: leave text and --shard out")
    text = " ".join(options.text)
    chosen = [each for each in catalogue() if text in f"{each.kind}: {each.name}"]
    first, _, step = options.shard.partition("/")
    if not (first.isdecimal() and step.isdecimal() and 1 <= int(first) <= int(step)):
        parser.error(f"--shard: {options.shard!r} is not K/N with K from 1 to N, e.g. 2/4")
    if not (of_shard := chosen[int(first) - 1 :: int(step)]):
        parser.error(f"no bug has {text!r} in 'CLASS: NAME', as docs/records/planted-bugs.md lists them")
    return of_shard


def main() -> int:
    """Prints who caught what; returns 1 if a bug escaped or its drill failed, 2 if a lab without a bug is not valid."""
    parser = argparse.ArgumentParser(
        prog="make mutants",
        description="Plants bugs in copies of the lab, and shows who catches them. Example: "
        "make mutants ONLY=streams ARGS='--jobs 2 --also tests scenarios'.",
    )
    parser.add_argument("text", nargs="*", help="plant only bugs with this text in 'CLASS: NAME'")
    parser.add_argument("--jobs", type=int, default=1, help="bugs that are tried side by side, default 1")
    parser.add_argument("--also", nargs="+", choices=ALSO, default=(), help="show which tests, scenarios notice, too")
    parser.add_argument("--shard", metavar="K/N", default="1/1", help="plant only every N-th bug, from the K-th on")
    parser.add_argument("--page", action="store_true", help="plant all bugs and write docs/records/planted-bugs.md")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep trials in FILE; leave out those that it has")
    options = parser.parse_args()
    also, console, chosen = tuple(options.also), Console(), _chosen(parser, options)
    try:
        kept = kept_in(options.resume, chosen)
    except LabError as error:
        parser.error(str(error))
    open_ = [each for each in chosen if each not in kept]
    drills = sorted({(each.drill, each.topology) for each in open_})
    controls = [Mutant(**{**asdict(NONE), "drill": drill, "topology": topology}) for drill, topology in drills]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [Path(folder) / str(number) for number in range(options.jobs)]
        for copy in copies:
            copy_of(CHECKOUT, copy)
        for each in trials(controls, copies, ()):
            verdict = each.failed or each.by or each.unknown or "valid"
            console.print(f"no bug: {each.mutant.drill} on {each.mutant.topology}: {verdict} ({each.took_s:.0f} s)")
            if each.by or each.failed:
                return 2
        for number, each in enumerate(trials(open_, copies, also), start=len(kept) + 1):
            kept[each.mutant] = each
            if options.resume:
                keep(options.resume, each)
            others = "".join(f"; {kind}: {name or '-'}" for kind, name in each.also.items())
            name = f"{each.mutant.kind}: {each.mutant.name}"
            console.print(f"{number}/{len(chosen)} {name}: {each.end}{others} ({each.took_s:.0f} s)")
    caught = [kept[each] for each in chosen]
    columns, rows = table_of(caught, also)
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    missed = [each for each in caught if not each.by]
    failed = sum(bool(each.failed) for each in missed)
    unmet = sum(bool(each.unmet) and not each.failed for each in missed)
    counts = f"{len(missed) - failed - unmet} escaped, {unmet} not met, {failed} drills failed"
    console.print(f"{len(caught) - len(missed)} of {len(caught)} caught, {counts}")
    if missed:
        return 1
    if options.page:
        PAGE.write_text(page(caught, also))
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
