"""The loop of every bench: trials in rounds, of which neither a failure nor an interrupt loses what was measured.

::

    trials = Trials(environment, interleave(variants, rounds))
    for trial in trials:
        with trial:
            trial.keep(p50=measured(trial.cell))
    trials.samples  # {(variant, "p50"): one value a round, NaN where it is missing}

A trial that fails leaves a gap, and the result says which and why. On Ctrl-C the trial that runs is finished, and a
first round completed; the bench then makes its result of what there is. A second Ctrl-C ends it at once.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

import grpc

from lab.errors import LabError, UnitError

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment

Cell = TypeVar("Cell")

_IN_MINUTES_S = 120
_FAILURES = (LabError, OSError, grpc.RpcError)


class Trial(Generic[Cell]):
    """One cell in one round; warm-up is round 0. As a context manager it turns a failure into a gap."""

    def __init__(self, trials: Trials[Cell], cell: Cell, number: int) -> None:
        self.cell, self.number = cell, number
        self._trials = trials

    def keep(self, **figures: float) -> None:
        """Keeps the cell's figures of this round, by name; those of warm-up are dropped."""
        if self.number:
            self._trials.kept[self.cell, self.number] = figures

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> bool:
        if not isinstance(error, _FAILURES):
            return False
        where = f"round {self.number}" if self.number else "warm-up"
        cell = ", ".join(map(str, self.cell)) if isinstance(self.cell, tuple) else self.cell
        self._trials.environment.missing.append(f"{where}, {cell}: {error}")
        return True


class Trials(Generic[Cell]):
    """All trials of a bench: an order of cells for each round, and cells to warm up beforehand.

    Attributes:
        kept: figures by cell and round.
    """

    def __init__(
        self,
        environment: Environment,
        orders: Sequence[Sequence[Cell]],
        *,
        warm_up: Sequence[Cell] = (),
        say_every: int = 1,
    ) -> None:
        self.environment = environment
        self.kept: dict[tuple[Cell, int], dict[str, float]] = {}
        self._orders, self._warm_up, self._say_every, self._rounds = orders, warm_up, say_every, 0
        self._began_s, self._done = time.monotonic(), 0

    def __iter__(self) -> Iterator[Trial[Cell]]:
        rounds = len(self._orders)
        for number, order in enumerate((self._warm_up, *self._orders)):
            if order and number % self._say_every == 0:
                trials = f": {len(order)} trials" if len(order) > 1 else ""
                self.environment.say(f"round {number} of {rounds}{trials}{self.left()}" if number else "warming up")
            for cell in order:
                if self._rounds and self.environment.interrupted:
                    self.environment.missing.append(f"interrupted in round {number} of {rounds}")
                    return
                yield Trial(self, cell, number)
                self._done += number > 0
            self._rounds = number
            if not number:  # warm-up takes longer, or less
                self._began_s = time.monotonic()

    def left(self) -> str:
        """The time that is left, e.g. ``, about 40 s left``, by that of the trials so far; empty before the first."""
        if not self._done:
            return ""
        left_s = (time.monotonic() - self._began_s) / self._done * (sum(map(len, self._orders)) - self._done)
        return f", about {left_s:.0f} s left" if left_s < _IN_MINUTES_S else f", about {left_s / 60:.0f} min left"

    @property
    def samples(self) -> dict[tuple[Cell, str], list[float]]:
        """Cell and figure → one value a round; NaN where it is missing.

        Raises:
            UnitError: no trial succeeded.
        """
        self.require_one()
        names = list(dict.fromkeys(name for figures in self.kept.values() for name in figures))
        rounds = range(1, 1 + max(number for _, number in self.kept))
        return {
            (cell, name): [self.kept.get((cell, number), {}).get(name, math.nan) for number in rounds]
            for cell in dict.fromkeys((*self._warm_up, *self._orders[0]))
            for name in names
        }

    def require_one(self) -> None:
        """Checks that there is something to make a result of.

        Raises:
            UnitError: no trial succeeded.
        """
        if not self.kept:
            raise UnitError(f"nothing was measured: {'; '.join(self.environment.missing[:1])}")

    @property
    def figures(self) -> dict[str, list[float]]:
        """The same, of a bench of one cell, by figure alone."""
        return {name: values for (_, name), values in self.samples.items()}


@contextmanager
def interruptible(environment: Environment) -> Iterator[None]:
    """In the body, the first Ctrl-C asks trials to end, and the second acts as ever."""
    before = signal.getsignal(signal.SIGINT)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        environment.interrupt()
        environment.say("interrupted: finishing what is measured now; once more to give up")

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
