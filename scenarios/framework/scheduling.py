"""The order in which workers, which share this machine, take scenarios."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")


def dealt(
    items: Sequence[Item], workers: int, *, takes_s: Callable[[Item], float], alone: Callable[[Item], bool]
) -> list[Item]:
    """Items in an order by which workers are done at about the same time.

    Each worker begins with a run of as many as every other, and takes over from the end of another's when it is done.
    So a run is an even share of the time: some of the longest, first, and then the shortest, which even out whatever
    was misjudged. Those that take as long, as one scenario does on each topology, every other worker takes from the
    end, so that the topology that costs most does not meet itself. Who needs the machine alone comes last, when others
    have no long ones left to wait for.

    Args:
        items: in any order.
        workers: how many.
        takes_s: seconds, about.
        alone: whether it waits until the other workers are done with what they are at.
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
    """So many of these, which are the longest first, that take so long in all or a little less; and the others."""
    begins = len(items) - count
    long: list[Item] = []
    short, others = items[begins:], []
    share_s -= sum(map(takes_s, short))
    for item in items[:begins]:
        # Each takes the place of the longest of the short ones.
        more_s = takes_s(item) - takes_s(short[0]) if short else 0.0
        if short and (more_s <= share_s or not long):
            long.append(item)
            others.append(short.pop(0))
            share_s -= more_s
        else:
            others.append(item)
    others.reverse()
    return [*long, *short], sorted(others, key=takes_s, reverse=True)
