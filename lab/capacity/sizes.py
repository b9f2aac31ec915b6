"""Sizes as people write them."""

from __future__ import annotations

import re

from lab.errors import InputError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KM]?B)?\s*", re.IGNORECASE)


def parse_size(text: str, option: str) -> int:
    """``400``, ``30KB`` or ``4.1 MB``, of 1,000 each, in bytes.

    Raises:
        InputError: it does not have that form; the message names the option.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InputError(f"{option}: {text!r} is not a size; write bytes, KB or MB, e.g. 30KB")
    return round(float(match[1]) * _UNITS[(match[2] or "").upper()])
