"""Callers that move to another topology while they send: when a move is over, and how a failure shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from lab.errors import UnitError
from lab.runs import LoadOptions
from lab.runs.moving import ANSWERED, moving
from lab.runtime.cancellation import CancelToken

CALLERS = ("homepage", "search")
OPTIONS = [LoadOptions(topology="gateway", caller=each, rate=1, duration_s=1) for each in CALLERS]


class FakeLab:
    """Answers each caller by the topology that it uses, one request after the other, until it is cancelled.

    Attributes:
        used: caller → topology.
        runs: names of the runs, in the order in which they began.
        answered: run → answers so far.
        fails: whether the drivers fail.
    """

    def __init__(self) -> None:
        self.used = dict[str, str]()
        self.runs = list[str]()
        self.answered = dict[str, int]()
        self.fails = False

    def use(self, topology: str, callers: Sequence[str]) -> None:
        moved = [each for each in callers if self.used.get(each) != topology]
        self.used |= dict.fromkeys(callers, topology)
        for each in moved:
            number = 1 + sum(run.startswith(f"{topology}-{each}") for run in self.runs)
            self.runs.append(f"{topology}-{each}" if number == 1 else f"{topology}-{each}-{number}")

    def load_mixture(
        self,
        options: Sequence[LoadOptions],
        *,
        progress: Callable[[Mapping[str, Any]], None],
        cancel_token: CancelToken,
    ) -> Any:
        cancelled = Event()
        with cancel_token.notifying(cancelled.set):
            while not cancelled.wait(0.001):
                if self.fails:
                    raise UnitError("the driver failed")
                for each in options:
                    run = next(run for run in reversed(self.runs) if each.caller in run)
                    self.answered[run] = self.answered.get(run, 0) + 1
                    progress({run: SimpleNamespace(ok=self.answered[run])})
        return "all runs"


def test_a_move_is_over_once_new_answers_came_also_on_the_way_back() -> None:
    lab = FakeLab()
    with moving(lab.load_mixture, lab.use, OPTIONS) as moves:
        assert lab.used == dict.fromkeys(CALLERS, "gateway")
        assert all(lab.answered[f"gateway-{each}"] >= ANSWERED for each in CALLERS)
        moves.to("mesh", "homepage")
        assert lab.used == {"homepage": "mesh", "search": "gateway"}
        assert lab.answered["mesh-homepage"] >= ANSWERED
        moves.to("gateway")
        assert lab.answered["gateway-homepage-2"] >= ANSWERED
    result: Any = moves.result
    assert result == "all runs"


def test_a_driver_that_fails_ends_the_wait_with_its_reason() -> None:
    lab = FakeLab()
    lab.fails = True
    with pytest.raises(UnitError, match="the driver failed"), moving(lab.load_mixture, lab.use, OPTIONS):
        pass
