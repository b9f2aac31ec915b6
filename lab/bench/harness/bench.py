"""A bench as a value: its name, question, options, and the function that measures; and all benches by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.registry import Registry
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from lab.bench.harness.environment import Environment
    from lab.bench.harness.result import BenchResult

ROUNDS = 10


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
        run: ``(environment, rounds, **options)`` → result. Of the options it gets those that the user gave, each a list
            of values. It raises :class:`lab.errors.UnitError` if an answer was wrong: then there is nothing to measure.
        rounds: number of rounds if the user gives none.
        options: its own options.
    """

    name: str
    question: str
    run: Callable[..., BenchResult]
    rounds: int = ROUNDS
    options: tuple[Option, ...] = ()


BENCHES = Registry(Bench, package="lab.bench.suites", group="routing_lab.benches", noun="bench")
"""Every bench that there is: the lab's, other distributions', and those of plugin files."""


def measure(bench: Bench, environment: Environment, rounds: int, **options: Sequence[str]) -> BenchResult:
    """Runs a bench; the result says which, when and where."""
    return replace(environment.recorded(lambda: bench.run(environment, rounds, **options), rounds), name=bench.name)
