"""What a scenario can come to: its claim held, did not, or nothing could be told."""

from __future__ import annotations

VALID, INVALID, UNKNOWN = "valid", "invalid", "unknown"


class UnknownError(Exception):
    """The evidence says nothing of the claim: a fault without an effect, say. It fails the scenario, and says so.

    Args:
        reason: what is missing.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"UNKNOWN: {reason}")


class LateError(UnknownError):
    """This machine was too slow for the scenario; beside another worker's it tries again alone, see :mod:`.again`."""


def verdict_on(error: BaseException | None) -> str:
    """By what ended a scenario."""
    if error is None:
        return VALID
    return UNKNOWN if isinstance(error, UnknownError) else INVALID
