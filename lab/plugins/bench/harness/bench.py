"""A bench as a value: its name, question, options, and the function that measures; and all benches by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.measure.control import control_of_rounds, rounds_to_tell
from lab.plugins.bench.harness.metronome import metronome
from lab.plugins.bench.harness.trials import interruptible
from lab.registry import Registry
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment
    from lab.plugins.bench.harness.result import BenchResult

ROUNDS = 2 * rounds_to_tell()
"""Enough for the A/A control of every bench, :func:`~lab.measure.control.control_of_rounds` included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of a bench, ``--name A,B`` on the command line; ``choices`` returns the values that are allowed."""

    name: str
    help: str
    choices: Callable[[], Collection[str]]

    @property
    def keyword(self) -> str:
        """The keyword argument of :attr:`Bench.run` that takes the values."""
        return self.name.replace("-", "_")

    def parse(self, text: str) -> list[str]:
        """Returns the values in a comma-separated text, each once.

        Raises:
            InputError: a value is not allowed.
        """
        values = list(dict.fromkeys(text.split(",")))
        if unknown := [value for value in values if value not in self.choices()]:
            raise InputError(f"--{self.name}: {unknown[0]!r} is not known; there are {', '.join(self.choices())}")
        return values


TOPOLOGIES_OPTION = Option(name="topologies", help="Compare only these topologies.", choices=lambda: TOPOLOGIES)
"""For benches that compare topologies: the lab is brought up with these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A bench.

    Attributes:
        name: as the command line has it, e.g. ``blast-radius``.
        question: one line that says what it measures, as a question.
        part_of: name of a group; ``lab bench GROUP`` measures all benches of it, and the bench of that name.
        run: ``(environment, rounds, **options)`` → result. Of the options it gets those that the user gave, each a list
            of values. It raises :class:`lab.errors.UnitError` if an answer was wrong: then there is nothing to measure.
        rounds: number of rounds if the user gives none.
        options: its own options.
        controls: number of A/A controls that it makes itself; without any, :func:`measure` compares its rounds.
        samples: number of samples that it takes at least, for any number of rounds.
    """

    name: str
    question: str
    run: Callable[..., BenchResult]
    rounds: int = ROUNDS
    options: tuple[Option, ...] = ()
    controls: int = 0
    samples: int = 0
    part_of: str = ""

    @property
    def title(self) -> str:
        """Its name, with that of its group: ``aa (trust)``."""
        return f"{self.name} ({self.part_of})" if self.part_of else self.name

    def too_few(self, rounds: int) -> str:
        """Why so many rounds cannot tell a difference from chance; empty if they can."""
        needed = rounds_to_tell(self.controls) if self.controls else 2 * rounds_to_tell()
        if max(rounds, self.samples) >= needed:
            return ""
        return f"{rounds} rounds are too few to tell a difference from chance: take --rounds {needed} or more"


BENCHES = Registry(Bench, package="lab.plugins.bench.suites", group="routing_lab.benches", noun="bench")
"""Every bench that there is: the lab's, other distributions', and those of plugin files."""


def benches_named(name: str) -> list[Bench]:
    """The bench of a name with all that are part of it.

    Raises:
        InputError: there is none.
    """
    return [each for each in BENCHES.values() if name in (each.name, each.part_of)] or [BENCHES[name]]


def measure(bench: Bench, environment: Environment, rounds: int, **options: Sequence[str]) -> BenchResult:
    """Runs a bench; the result says which, when and where.

    Every bench has an A/A control: if it measured no variant twice, its rounds are compared with each other. Claims
    whose figure scatters are in doubt if that control is, or if this machine was busy.
    """
    with metronome() as beats, interruptible(environment):
        result = environment.recorded(lambda: bench.run(environment, rounds, **options), rounds)
    made = () if result.controls else (control_of_rounds(result.samples),)
    doubts = tuple(filter(None, (*(each.doubt for each in made), beats.doubt if not result.paces else "")))
    claims = [
        claim if claim.figure.low == claim.figure.high else replace(claim, doubts=(*claim.doubts, *doubts))
        for claim in result.claims
    ]
    late = f"a metronome beside it was {beats.late_p99_ms:.2f} ms late (p99)"
    missing, environment.missing[:] = [*result.missing, *environment.missing], []
    return replace(
        result,
        name=bench.name,
        claims=claims,
        controls=[*result.controls, *made],
        notes=[*result.notes, late],
        missing=missing,
    )
