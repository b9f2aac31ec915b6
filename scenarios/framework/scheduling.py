"""The order in which workers that share a machine run scenarios."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def balanced_order(
    items: Sequence[Item], workers: int, *, takes_s: Callable[[Item], float], alone: Callable[[Item], bool]
) -> list[Item]:
    """The items in an order that lets all workers end at about the same time.

    pytest-xdist gives each worker an equal number of consecutive items; a worker that is done steals from the end of
    another's. So each such run gets an equal share of the time: some of the longest items first, then the shortest,
    which compensate for wrong estimates. Of equally long items, such as one scenario on each topology, every other
    worker takes those at the end, so that the most expensive topology does not run twice at once. Items that need the
    machine alone come last, when no long ones are left to wait for.

    Args:
        items: in any order.
        workers: number of workers.
        takes_s: estimated seconds of an item.
        alone: whether an item waits until the other workers have ended their current one.
    """
    rest = sorted(items, key=takes_s, reverse=True)
    last = [item for item in rest if alone(item)]
    rest = [item for item in rest if not alone(item)]
    order: list[Item] = []
    for left in range(workers, 1, -1):
        share_s = sum(map(takes_s, [*rest, *last])) / left
        count = min((len(rest) + len(last)) // left, len(rest))
        run, rest = _share(rest, count, share_s, takes_s)
        order += run
    return [*order, *rest, *last]


def _share(
    items: list[Item], count: int, share_s: float, takes_s: Callable[[Item], float]
) -> tuple[list[Item], list[Item]]:
    """Splits items, longest first, into ``count`` that take ``share_s`` seconds or a little less, and the others."""
    begins = len(items) - count
    long: list[Item] = []
    short, others = items[begins:], []
    share_s -= sum(map(takes_s, short))
    for item in items[:begins]:
        # Each replaces the longest of the short ones.
        more_s = takes_s(item) - takes_s(short[0]) if short else 0.0
        if short and (more_s <= share_s or not long):
            long.append(item)
            others.append(short.pop(0))
            share_s -= more_s
        else:
            others.append(item)
    others.reverse()
    return [*long, *short], sorted(others, key=takes_s, reverse=True)
