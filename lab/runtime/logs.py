"""A unit's log, as a file in the lab's folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LAST_LINES = 3


@dataclass(frozen=True, slots=True)
class UnitLog:
    """What a unit prints: ``<lab>/units/<unit>/log``."""

    path: Path

    def last_words(self) -> str:
        """The end, in one line; empty if the unit has printed nothing."""
        return " | ".join(self.last_lines(_LAST_LINES))

    def last_lines(self, count: int) -> list[str]:
        """The last ``count`` lines, or all if there are fewer."""
        lines = self.path.read_text(errors="replace").splitlines() if self.path.exists() else []
        return lines[-count:]

    def replace(self, content: bytes) -> None:
        """Replaces the whole log."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(content)


def log_of(folder: Path, unit: str) -> UnitLog:
    """The log of a unit of the lab in ``folder``."""
    return UnitLog(folder / "units" / unit / "log")
