"""Rate and duration of an open loop where none are given, and how busy the machine is as a run starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from lab.cli.output import say
from lab.ops import headroom

RATE = 100.0
"""Requests per second, on a machine that is idle."""
SHORTEST_S, LONGEST_S = 10.0, 30.0
"""Bounds of a duration that is not given, seconds."""


@dataclass
class Choice:
    """A rate, and what to say of it and of the machine once the options have proved right and the run starts."""

    rate: float
    said: list[str]

    def say_once(self) -> None:
        """Says it, on standard error, the first time it is called."""
        while self.said:
            say(self.said.pop(0))


def choose(given: float | None, *, payload_bytes: int, callers: int, is_open_loop: bool) -> Choice:
    """The rate that is given, or, of an open loop, one that fits this machine."""
    machine = headroom.measure()
    said = [f"before the run this machine was {machine}{_WARNING if machine.is_busy else ''}"]
    if given is not None or not is_open_loop:
        return Choice(RATE if given is None else given, said)
    rate = machine.rate(payload_bytes=payload_bytes, callers=callers)
    return Choice(rate, [*said, f"no --rate is given: {rate:g} rps fit this machine now; `--rate {rate:g}` repeats it"])


def choose_duration(needed: Iterable[tuple[float, str]], said: list[str]) -> float:
    """The duration in which each share of the table can be judged, seconds, within bounds.

    Args:
        needed: seconds that each run needs, with the share that needs most, in words.
        said: gets a line if the duration is longer than usual.
    """
    longest_s, share = max(needed)
    duration_s = min(LONGEST_S, max(SHORTEST_S, ceil(longest_s)))
    if longest_s > LONGEST_S:
        said.append(
            f"no --duration is given: {duration_s:g} s; `--duration {ceil(longest_s)}` would judge {share}, too"
        )
    elif duration_s > SHORTEST_S:
        said.append(f"no --duration is given: {duration_s:g} s, so that {share} can be judged")
    return duration_s


_WARNING = "; latencies may describe it, not the lab"
