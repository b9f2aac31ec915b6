"""What an act found: the figure that judged records gave."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an act found.

    Attributes:
        figure: the one to remember, e.g. ``5 of 5 callers hit``.
        shown: whether it supports the act's sentence.
        basis: what it was counted from, e.g. ``312 requests, judged``.
        doubt: why not to trust it; empty if it can be trusted.
        runs: folders of the runs that it comes from.
        hit_callers: number of callers that were hit, of ``of_callers``; both 0 if that is not the question.
    """

    figure: str
    shown: bool
    basis: str
    doubt: str = ""
    runs: tuple[str, ...] = ()
    hit_callers: int = 0
    of_callers: int = 0

    def to_document(self) -> dict[str, Any]:
        """It as JSON."""
        return {**asdict(self), "runs": list(self.runs)}
