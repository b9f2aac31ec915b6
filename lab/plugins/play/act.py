"""One act of the talk: a sentence, and what is done on stage to show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.plugins.play.finding import Finding
    from lab.plugins.play.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """An act.

    Attributes:
        number: its place in the talk.
        name: as ``--acts`` takes it.
        title: three or four words.
        sentence: what it shows.
        needs: topologies without which it cannot be played.
        play: shows it.
    """

    number: int
    name: str
    title: str
    sentence: str
    play: Callable[[Stage], Finding]
    needs: tuple[str, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """It as JSON, without what it does."""
        return {"number": self.number, "name": self.name, "title": self.title, "sentence": self.sentence}


ACTS: Mapping[str, Act] = Registry(Act, package="lab.plugins.play.acts", group="routing_lab.acts", noun="act")
"""Every act by its name."""


def in_order(names: str = "") -> list[Act]:
    """The acts of these names, or all, in the talk's order.

    Args:
        names: comma-separated; numbers are also names. Empty for all.

    Raises:
        InputError: there is no such act.
    """
    by_number = {str(act.number): act.name for act in ACTS.values()}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(ACTS)
    chosen = {ACTS[by_number.get(name, name)].name for name in wanted}
    return sorted((ACTS[name] for name in chosen), key=lambda act: act.number)
