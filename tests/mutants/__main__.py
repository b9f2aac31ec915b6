"""``python -m tests.mutants [TEXT]``: plants every bug of the catalogue, or those whose name has the text, and judges.

Each bug is put into a copy of the checkout; the copy's lab is driven by a drill, and its runs are judged by ``lab
check`` of this checkout. A bug whose runs are all valid has escaped: exit status 1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.catalogue import CHECKOUT, Mutant, catalogue

_DRILL_S = 300
_CHECK_S = 120
NONE = Mutant(name="none", kind="as it is", file="", find="", replace="")


@dataclass(frozen=True, slots=True)
class Caught:
    """What noticed a bug.

    Attributes:
        by: ``delivery: 12``, checkers with their numbers of violations; ``lab up`` or the like if a command failed;
            empty if nothing did.
        took_s: seconds.
    """

    mutant: Mutant
    by: str
    unknown: str
    took_s: float


def copy_of(checkout: Path, to: Path) -> None:
    """Copies what git knows or would know of a checkout, without its history."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=checkout,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (checkout / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkout / name, to / name)


def trial(mutant: Mutant, copy: Path) -> Caught:
    """Plants one bug in a copy, drills it, judges it, and mends the copy."""
    began = time.monotonic()
    shutil.rmtree(copy / "runs", ignore_errors=True)
    if mutant.file:
        (copy / mutant.file).write_text(mutant.mutated(CHECKOUT))
    try:
        done = subprocess.run(
            (sys.executable, "-m", "tests.mutants.drill", mutant.drill, mutant.topology),
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            timeout=_DRILL_S,
            check=False,
        )
    finally:
        if mutant.file:
            shutil.copyfile(CHECKOUT / mutant.file, copy / mutant.file)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return Caught(mutant, f"the lab itself: {lines[0][:100]}", "", time.monotonic() - began)
    by, unknown = [], []
    for run in done.stdout.splitlines():
        caught, open_ = _judged(run, mutant.shows)
        by += caught
        unknown += open_
    return Caught(mutant, ", ".join(by), ", ".join(unknown), time.monotonic() - began)


def _judged(run: str, claim: str) -> tuple[list[str], list[str]]:
    """Returns the checkers that call a run invalid, with their violations, and those that call it unknown."""
    command = (sys.executable, "-c", "from lab.cli import main; main()", "check", run, "--json", "--claims", claim)
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=_CHECK_S, check=False)
    if done.returncode == 3:  # it cannot be judged
        return [f"evidence: {done.stderr.strip()[:100]}"], []
    verdicts = json.loads(done.stdout)["verdicts"]
    caught = [f"{each['checker']}: {len(each['violations'])}" for each in verdicts if each["outcome"] == "invalid"]
    return caught, [each["checker"] for each in verdicts if each["outcome"] == "unknown" and each["claim"] == claim]


def main() -> int:
    """Prints who caught what; returns 1 if a bug escaped, 2 if the lab without a bug is not valid."""
    text = " ".join(sys.argv[1:])
    chosen = [each for each in catalogue() if text in f"{each.kind}: {each.name}"]
    console = Console()
    caught: list[Caught] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy_of(CHECKOUT, Path(folder))
        for drill, topology in sorted({(each.drill, each.topology) for each in chosen}):
            control = trial(Mutant(**{**asdict(NONE), "drill": drill, "topology": topology}), Path(folder))
            console.print(
                f"no bug: {drill} on {topology}: {control.by or control.unknown or 'valid'} ({control.took_s:.0f} s)"
            )
            if control.by:
                return 2
        for number, mutant in enumerate(chosen, start=1):
            caught.append(trial(mutant, Path(folder)))
            last = caught[-1]
            console.print(
                f"{number}/{len(chosen)} {mutant.kind}: {mutant.name}: {last.by or 'ESCAPED'} ({last.took_s:.0f} s)"
            )
    table = Table("class", "planted bug", "topology", "drill", "caught by", "unknown by")
    for each in caught:
        table.add_row(
            each.mutant.kind,
            each.mutant.name,
            each.mutant.topology,
            each.mutant.drill,
            each.by or "[red]nobody",
            each.unknown,
        )
    console.print(table)
    escaped = [each.mutant.name for each in caught if not each.by]
    console.print(f"{len(caught) - len(escaped)} of {len(caught)} caught, {len(escaped)} escaped")
    return bool(escaped)


if __name__ == "__main__":
    sys.exit(main())
