"""The guards, and labs without one.

``python -m tests.negative.guards NAME`` tries a guard's attacks, and prints as JSON how each ended. It runs in a copy
of the checkout from which the guard was taken away.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from lab import CHECKOUT
from lab.transport.security import MTLS
from tests.mutants.catalogue import Edit, Mutant
from tests.mutants.copies import copy_of, run_in
from tests.negative.cases import CASES
from tests.negative.scene import Case, Scene, Tried, standing
from tests.negative.wire import Answer

_TIMEOUT_S = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What refuses some attacks.

    Attributes:
        cases: pattern of the names of the cases that it refuses.
        edits: that take it away.
        security: of a lab without it.
        succeeds: pattern of the answers, ``STATUS: reason``, that an attacker wants.
        why: whose guard it is, if it cannot be taken away.
        in_suite: whether the test suite tries a lab without it; all are tried by ``make refusals-page``.
    """

    name: str
    cases: str
    edits: tuple[Mutant, ...] = ()
    security: str = MTLS
    succeeds: str = "^(OK|OPEN)"
    why: str = ""
    in_suite: bool = False

    def its_cases(self) -> list[Case]:
        """The attacks that it refuses."""
        return [case for case in CASES if re.search(self.cases, case.name)]

    def is_needed_for(self, case: Case, answer: Answer) -> bool:
        """Whether the attack succeeded, with this answer, without the guard."""
        return not case.is_refused(answer) and re.search(self.succeeds, f"{answer.status}: {answer.reason}") is not None

    def take_away(self, checkout: Path) -> None:
        """Edits a copy of the checkout.

        Raises:
            ValueError: a text to replace does not stand in its file exactly once.
        """
        for edit in self.edits:
            for file, text in edit.mutated(checkout).items():
                (checkout / file).write_text(text)


@cache
def guards() -> tuple[Guard, ...]:
    """All guards."""
    found = tomllib.loads((Path(__file__).parent / "guards.toml").read_text())["guard"]
    return tuple(_guard(**each) for each in found)


def guard_of(case: Case) -> Guard:
    """The one that refuses it."""
    [guard] = [guard for guard in guards() if re.search(guard.cases, case.name)]
    return guard


def without(guard: Guard) -> dict[str, Tried]:
    """How each of a guard's attacks ends in a lab without it, by the case's name."""
    with tempfile.TemporaryDirectory(prefix="unguarded-") as folder:
        copy_of(CHECKOUT, Path(folder))
        guard.take_away(Path(folder))
        done = run_in(Path(folder), _TIMEOUT_S, "-m", "tests.negative.guards", guard.name)
    if done.returncode:
        raise RuntimeError(f"{guard.name}: {done.stderr[-2000:]}")
    return {name: _tried(**each) for name, each in json.loads(done.stdout).items()}


def _guard(edits: list[Mapping[str, str]] | None = None, **fields: str) -> Guard:
    mutants = (Mutant(name=fields["name"], kind="guard", edits=(Edit(**edit),)) for edit in edits or ())
    return Guard(edits=tuple(mutants), **fields)  # type: ignore[arg-type]  # which of them are texts, TOML says


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
