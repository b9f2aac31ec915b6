"""Runs benches with the lab's own command, and again with more rounds where a claim stays undecided."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from docs.site.links import CHECKOUT
from lab.errors import UnitError
from lab.measure.findings import State
from lab.plugins.bench.harness.bench import BENCHES
from lab.plugins.bench.harness.crossover import LEAST_ROUNDS
from lab.plugins.bench.since.checkout import end

STEPS = (30, 60)
"""Rounds of a bench of which a claim is undecided; the last is the most."""
MORE_S = 3_600.0
"""Time for all rounds beyond the first, of all benches together, seconds."""

# What benches measure for the pages, if not what they do by themselves, and in how many rounds, for want of time.
_OPTIONS = {"pickers": "--shares 0.1,0.5,0.9 --loads 50,90,130 --ages 50,1000 --seconds 4"}
_ROUNDS = {"pickers": LEAST_ROUNDS}

# Exit statuses of a bench that has figures: all claims hold, one does not, one is undecided.
_MEASURED = (0, 1, 2)


@dataclass(slots=True)
class Measured:
    """What was measured.

    Attributes:
        kept: as ``docs/figures.json`` keeps it, by bench.
        folders: with each bench's charts.
        problems: why a bench has no new figures, in words.
    """

    kept: dict[str, Any] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def measure(benches: Sequence[str], rounds: int | None, say: Callable[[str], None]) -> Measured:
    """Measures benches in so many rounds, or in each one's own number, and in more where a claim is undecided.

    A bench that is measured again begins anew, so a claim has as many chances as there are steps.
    """
    result = Measured()
    numbers = {bench: rounds or _ROUNDS.get(bench, BENCHES[bench].rounds) for bench in benches}
    for number, group in groupby(sorted(benches, key=numbers.__getitem__), key=numbers.__getitem__):
        _run(list(group), number, result)
    left_s = MORE_S
    for bench in benches if rounds is None else ():
        while (found := result.kept.get(bench)) and (more := more_rounds(bench, found)):
            took_s = found["ran"]["took_s"] / found["ran"]["rounds"] * more
            if took_s > left_s:
                say(f"{bench}: undecided; {more} rounds would take {took_s:.0f} s, of which {left_s:.0f} s are left")
                break
            left_s -= took_s
            say(f"{bench}: undecided after {found['ran']['rounds']} rounds; measuring {more}")
            _run([bench], more, result)
            if result.kept[bench] is found:
                break
    return result


def more_rounds(bench: str, found: Mapping[str, Any]) -> int:
    """Returns in how many rounds to measure a bench again; 0 if nothing is undecided, or more would change nothing."""
    undecided = [each for each in found["figures"].values() if each["state"] == State.UNDECIDED]
    rounds = found["ran"]["rounds"]
    if not undecided or BENCHES[bench].samples >= STEPS[-1]:
        return 0
    needed = max(each["rounds_needed"] or rounds + 1 for each in undecided)
    later = [step for step in STEPS if step > rounds]
    return next((step for step in later if step >= needed), later[-1] if later else 0)


def figures_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a bench's document that is kept: where and when it ran, its claims by name, its tables."""
    claims = {
        slug(claim["text"]): {
            "text": claim["text"],
            **claim["figure"],
            **{name: claim[name] for name in ("at_least", "at_most", "state", "doubts", "rounds_needed")},
        }
        for claim in document["claims"]
    }
    return {"ran": document["ran"], "figures": claims, "tables": document["tables"]}


def failing(kept: Mapping[str, Any]) -> list[str]:
    """Returns the claims that do not hold, each in one line that names its bench."""
    return [
        f"{bench}: {figure['text']}: {figure['estimate']:g} [{figure['low']:g}, {figure['high']:g}], "
        f"{bound_of(figure)}: {figure['state']}"
        for bench, found in kept.items()
        for figure in found["figures"].values()
        if figure["state"] == State.FAILS
    ]


def bound_of(figure: Mapping[str, Any]) -> str:
    """The bounds of a figure that is kept, e.g. ``≥ 0.99 and ≤ 1.01``; empty if it has none."""
    bounds = (("≥", figure["at_least"]), ("≤", figure["at_most"]))
    return " and ".join(f"{sign} {value:,g}" for sign, value in bounds if value is not None)


def slug(text: str) -> str:
    """A claim's name on pages."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def lab_json(command: str) -> Any:
    """Runs a command of the lab, such as ``lab scale --json``, and returns its document.

    Raises:
        UnitError: it ended without one.
    """
    argv = [str(Path(sys.executable).parent / "lab"), *command.split()[1:]]
    with subprocess.Popen(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            document, _ = process.communicate()
        except BaseException:
            end(process)  # it takes its lab down first
            raise
    if process.returncode not in _MEASURED or not document:
        raise UnitError(f"{command}: exit status {process.returncode}")
    return json.loads(document)


def _run(benches: Sequence[str], rounds: int, result: Measured) -> None:
    """Adds what one command measures."""
    try:
        document = lab_json(f"{_command(benches, rounds)} --json")
    except UnitError as error:
        result.problems.append(str(error))
        return
    for each in document["benches"]:
        if each["ran"] is None:
            result.problems.append(f"{each['name']}: {'; '.join(each['missing'])}")
            continue
        result.kept[each["name"]] = found = figures_of(each)
        found["ran"]["command"] = _command([each["name"]], rounds)
        result.folders[each["name"]] = Path(document["run_dir"])


def _command(benches: Sequence[str], rounds: int) -> str:
    """What measures these benches."""
    options = (_OPTIONS[each] for each in benches if each in _OPTIONS)
    return " ".join(("lab bench", *benches, *options, f"--rounds {rounds}"))
