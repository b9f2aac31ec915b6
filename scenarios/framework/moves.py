"""Moves a model between two clusters under load, and measures when the last answer from the previous one came."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.clock import lab_time_ns
from lab.history import read_columns
from lab.runs.folder import HISTORY
from scenarios.framework.steps import await_requests, moved_table

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.runs import RunResult

CLUSTERS = ("ml-cluster-1", "ml-cluster-5")
"""Where the default route table has ``cw-ranker@v1``, and where :func:`moved_table` has it."""

_VERSION = "v1"
_NS_PER_MS = 1e6
_NEVER_NS = 2**62


@dataclass(frozen=True, slots=True)
class Move:
    """A publish that moves the model.

    Attributes:
        begun_ns: when it began, Unix nanoseconds.
        cluster: where the model is then.
    """

    begun_ns: int
    cluster: str


def move_there_and_back(lab: Lab, routes: Path, folder: Path, number: int) -> list[Move]:
    """Moves the model ``number`` times; each time, until requests arrive at the other cluster.

    Args:
        lab: with load on it.
        routes: the default route table, which is in force.
        folder: for the other one.
        number: of moves.
    """
    tables = routes, moved_table(routes, folder)
    moves = []
    for place in range(1, number + 1):
        moves.append(Move(lab_time_ns(), CLUSTERS[place % 2]))
        lab.routes.publish(tables[place % 2])
        await_requests(lab, CLUSTERS[place % 2])
    return moves


def last_old_ms(result: RunResult, moves: list[Move]) -> list[float]:
    """For each move, how long after its beginning the last answer from the previous cluster came; 0 if none did."""
    columns = read_columns(result.folder / HISTORY, {"cluster", "version", "status", "done_ns"})
    answered = columns.is_word("status", "OK") & columns.is_word("version", _VERSION)
    done_ns = columns.numbers("done_ns")[answered]
    found = []
    for move, end_ns in zip(moves, [*(each.begun_ns for each in moves[1:]), _NEVER_NS], strict=True):
        old = ~columns.is_word("cluster", move.cluster)[answered] & (move.begun_ns < done_ns) & (done_ns < end_ns)
        found.append(max(0, int(done_ns[old].max(initial=0)) - move.begun_ns) / _NS_PER_MS)
    return found
