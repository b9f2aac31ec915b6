"""What a check says of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Told:
    """Whether an answer is right, and a word to go on with.

    Attributes:
        right: it is.
        words: what is so about it, or a hint; never the solution.
    """

    right: bool
    words: str

    def __str__(self) -> str:
        return f"✓ Right. {self.words}" if self.right else f"… Not yet. {self.words}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p><b>{escape(str(self).split('. ', 1)[0])}.</b> {escape(self.words)}</p>"


def right(words: str) -> Told:
    """A right answer."""
    return Told(right=True, words=words)


def not_yet(hint: str) -> Told:
    """One that is not right yet."""
    return Told(right=False, words=hint)
