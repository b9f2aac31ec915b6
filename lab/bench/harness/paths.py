"""Comparisons of paths from caller to model."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from lab.measure.compare import median
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lab.measure.compare import Interval

Round = TypeVar("Round")


def one_of_each_path(names: Iterable[str]) -> list[str]:
    """Returns, of topologies through the same roles, the first alone: ``mesh`` for ``mesh`` and ``mesh-unleased``."""
    first: dict[tuple[str, ...], str] = {}
    for name in names:
        first.setdefault(TOPOLOGIES[name].roles, name)
    return list(first.values())


def extreme_path(
    seen: Mapping[str, Sequence[Round]],
    paths: Iterable[str],
    figure: Callable[[Round], float],
    *,
    choose: Callable[..., str] = max,
) -> tuple[str, Interval]:
    """Returns the path with the greatest median of a figure over its rounds, or the least, and that median."""
    medians = {path: median(map(figure, seen[path])) for path in paths}
    path = choose(medians, key=lambda each: medians[each].estimate)
    return path, medians[path]
