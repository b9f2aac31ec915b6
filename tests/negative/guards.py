"""The guards, and labs without them.

``python -m tests.negative.guards NAME`` tries a guard's attacks, and prints as JSON how each ended. It runs in a copy
of the checkout from which guards were taken away.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lab import CHECKOUT
from lab.transport.security import MTLS
from tests.mutants.catalogue import Edit, Mutant
from tests.mutants.copies import copy_of, run_in
from tests.negative.cases import CASES
from tests.negative.cases.keys import MALFORMED
from tests.negative.scene import Case, Scene, Tried, standing
from tests.negative.unchecked import what_arrives
from tests.negative.wire import Answer

_TIMEOUT_S = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What refuses some attacks.

    Attributes:
        cases: pattern of the names of the cases that it refuses; empty if others refuse all of these before.
        edits: that take it away.
        behind: names of the guards that refuse some of these cases where it does not.
        refuses: pattern of the answers, ``STATUS: reason``, by which it does so behind another one.
        security: of a lab without it.
        succeeds: pattern of the answers that an attacker wants.
        why: whose guard it is, if it cannot be taken away.
        in_suite: whether the test suite tries a lab without it; all are tried by ``make refusals-page``.
    """

    name: str
    cases: str = "^$"
    edits: tuple[Mutant, ...] = ()
    behind: Sequence[str] = ()
    refuses: str = "^$"
    security: str = MTLS
    succeeds: str = "^(OK|OPEN)"
    why: str = ""
    in_suite: bool = False

    def its_cases(self) -> list[Case]:
        """The attacks that it refuses."""
        return [case for case in CASES if re.search(self.cases, case.name)]

    def lets_through(self, case: Case, answer: Answer) -> bool:
        """Whether the attack succeeded, with this answer, where nothing refuses it."""
        return not case.is_refused(answer) and re.search(self.succeeds, str(answer)) is not None

    def take_away(self, checkout: Path) -> None:
        """Edits a copy of the checkout.

        Raises:
            ValueError: a text to replace does not stand in its file exactly once.
        """
        for edit in self.edits:
            for file, text in edit.mutated(checkout).items():
                (checkout / file).write_text(text)


@dataclass(frozen=True, slots=True)
class Layers:
    """How the attacks of one guard end without it, and without those behind it.

    Attributes:
        open: case → its end in a lab without any of them.
        alone: name of each of them, if there are several → case → its end in a lab that has this one only.
    """

    guard: Guard
    open: Mapping[str, Tried]
    alone: Mapping[str, Mapping[str, Tried]]

    def behind(self, case: Case) -> dict[str, Answer]:
        """The guards that refuse a case if the first one does not, and how."""
        ends = {name: self.alone[name][case.name].answer for name in self.guard.behind}
        return {name: end for name, end in ends.items() if not self.guard.lets_through(case, end)}

    def objections(self) -> list[str]:
        """What does not show that each attack has its guard."""
        wrong = list[str]()
        for case in self.guard.its_cases():
            if not self.guard.lets_through(case, end := self.open[case.name].answer):
                wrong.append(f"{case.name}: does not get through without {self.guard.name}: {end}")
            if self.alone and not case.is_refused(end := self.alone[self.guard.name][case.name].answer):
                wrong.append(f"{case.name}: {self.guard.name} alone does not refuse it: {end}")
            for name, end in self.behind(case).items():
                if not re.search(guard_named(name).refuses, str(end)):
                    wrong.append(f"{case.name}: it is not {name} that refuses it then: {end}")
        cases = self.guard.its_cases()
        idle = [name for name in self.guard.behind if not any(name in self.behind(case) for case in cases)]
        return wrong + [f"{self.guard.name}: {name} refuses nothing behind it" for name in idle]


@cache
def guards() -> tuple[Guard, ...]:
    """All guards."""
    found = tomllib.loads((Path(__file__).parent / "guards.toml").read_text())["guard"]
    return tuple(_guard(**each) for each in found)


def guard_of(case: Case) -> Guard:
    """The one that refuses it."""
    [guard] = [guard for guard in guards() if re.search(guard.cases, case.name)]
    return guard


def guard_named(name: str) -> Guard:
    """The guard of this name."""
    [guard] = [guard for guard in guards() if guard.name == name]
    return guard


def layers(guard: Guard) -> Layers:
    """Tries a guard's attacks without it and those behind it, and with each of these alone."""
    names = (guard.name, *guard.behind) if guard.behind else ()
    return Layers(guard, without(guard), {name: without(guard, but=name) for name in names})


def without(guard: Guard, *, but: str = "") -> dict[str, Tried]:
    """How each of a guard's attacks ends in a lab without it and those behind it, by the case's name.

    Args:
        guard: whose attacks.
        but: name of the one that stays.
    """
    if guard.why:
        return {case.name: Tried(what_arrives(*MALFORMED[case.attack]), 0, 0, 0) for case in guard.its_cases()}
    with tempfile.TemporaryDirectory(prefix="unguarded-") as folder:
        copy_of(CHECKOUT, Path(folder))
        for name in {guard.name, *guard.behind} - {but}:
            guard_named(name).take_away(Path(folder))
        done = run_in(Path(folder), _TIMEOUT_S, "-m", "tests.negative.guards", guard.name)
    if done.returncode:
        raise RuntimeError(f"{guard.name}: {done.stderr[-2000:]}")
    return {name: _tried(**each) for name, each in json.loads(done.stdout).items()}


def _guard(edits: list[Mapping[str, str]] | None = None, **fields: Any) -> Guard:
    mutants = (Mutant(name=fields["name"], kind="guard", edits=(Edit(**edit),)) for edit in edits or ())
    return Guard(edits=tuple(mutants), **fields)


def _tried(answer: Mapping[str, str], **figures: float) -> Tried:
    return Tried(Answer(**answer), **figures)  # type: ignore[arg-type]  # the body is text in JSON


def _try_all(guard: Guard, scene: Scene) -> dict[str, object]:
    found = dict[str, object]()
    for case in guard.its_cases():
        tried = case.tried(scene)
        answer = {"status": tried.answer.status, "reason": tried.answer.said()}
        found[case.name] = {**asdict(tried), "answer": answer}
    return found


def main() -> None:
    """Prints how each attack of a guard ends."""
    [guard] = [guard for guard in guards() if guard.name == sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder, standing(Path(folder), guard.security) as scene:
        print(json.dumps(_try_all(guard, scene)))  # noqa: T201 (its answer)


if __name__ == "__main__":
    main()
