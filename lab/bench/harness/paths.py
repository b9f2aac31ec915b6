"""Which topologies have the same path from caller to model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from collections.abc import Iterable


def one_of_each_path(names: Iterable[str]) -> list[str]:
    """Returns, of topologies through the same roles, the first alone: ``mesh`` for ``mesh`` and ``mesh-unleased``."""
    first: dict[tuple[str, ...], str] = {}
    for name in names:
        first.setdefault(TOPOLOGIES[name].roles, name)
    return list(first.values())
