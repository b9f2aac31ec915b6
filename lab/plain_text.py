"""Checks text that arrives in a request, where it enters.

It may end up in a header, a log line, a file name or on a terminal, so it must be one line of bounded length, without
escape sequences.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 1_024
"""Limit for a name or a value in a request."""

MAX_ID_CHARACTERS = 256
"""Limit for what becomes a header."""

# Control characters, line separators, changes of direction, and half characters. Letters of every language pass.
_STEERS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHOWN = 40


def is_plain(text: str) -> bool:
    """Whether a text contains no character that ends a line or steers a terminal."""
    return text.isprintable() or _STEERS.search(text) is None


def require_plain(field: str, text: str, most: int = MAX_CHARACTERS) -> None:
    """Raises ValueError unless the text is plain and not too long."""
    if not is_plain(text):
        raise ValueError(f"{field}: {text[:_SHOWN]!a} contains a control character; leave it out")
    if len(text) > most:
        raise ValueError(f"{field}: {text[:_SHOWN]!a}… has {len(text)} characters; use {most} at most")


def require_header_value(field: str, text: str) -> None:
    """Raises ValueError unless the text can be the value of a header: plain ASCII without blanks around it."""
    require_plain(field, text, MAX_ID_CHARACTERS)
    if not text.isascii() or text != text.strip():
        raise ValueError(f"{field}: {text[:_SHOWN]!a} cannot be a header's value; use ASCII without blanks around it")


def printable(text: str, most: int) -> str:
    """The text on one line, its control characters escaped, cut to ``most`` characters.

    For texts that are worth keeping as they are, such as a reason or a comment.
    """
    shown = text[:most]
    if not is_plain(shown):
        shown = _STEERS.sub(lambda found: ascii(found[0])[1:-1], shown)
    return f"{shown[: most - 1]}…" if len(text) > most or len(shown) > most else shown
