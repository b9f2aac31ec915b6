"""The verdicts of a scenario: its claim holds, does not hold, or the evidence does not decide."""

from __future__ import annotations

VALID, INVALID, UNKNOWN = "valid", "invalid", "unknown"


class UnknownError(Exception):
    """The evidence does not decide the claim, e.g. after a fault without a visible effect. Fails the scenario."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"UNKNOWN: {reason}")


class LateError(UnknownError):
    """The timing that the scenario claims was not kept beside another worker's; it reruns alone, see :mod:`.rerun`.

    It excuses nothing else: a scenario raises it once all that it claims of answers holds.
    """


def verdict_on(error: BaseException | None) -> str:
    """The verdict for the error that ended a scenario."""
    if error is None:
        return VALID
    return UNKNOWN if isinstance(error, UnknownError) else INVALID
