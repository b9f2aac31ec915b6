"""The result of an exercise."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class ExerciseResult:
    """Whether an answer is right, and a word to go on with."""

    right: bool
    words: str

    def __str__(self) -> str:
        return f"✓ Right. {self.words}" if self.right else f"… Not yet. {self.words}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p><b>{escape(str(self).split('. ', 1)[0])}.</b> {escape(self.words)}</p>"


def right(words: str) -> ExerciseResult:
    """A right answer."""
    return ExerciseResult(right=True, words=words)


def not_yet(hint: str) -> ExerciseResult:
    """One that is not right yet."""
    return ExerciseResult(right=False, words=hint)
