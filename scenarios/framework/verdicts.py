"""The verdicts of a scenario: its claim holds, does not hold, or the evidence does not decide."""

from __future__ import annotations

VALID, INVALID, UNKNOWN = "valid", "invalid", "unknown"


class UnknownError(Exception):
    """The evidence does not decide the claim, e.g. after a fault without a visible effect. Fails the scenario."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"UNKNOWN: {reason}")


class LateError(UnknownError):
    """The scenario missed its timing while other workers used the machine; it reruns alone, see :mod:`.rerun`.

    Only for timing: a scenario raises it after all its claims about answers hold.
    """


def verdict_on(error: BaseException | None) -> str:
    """The verdict for the error that ended a scenario."""
    if error is None:
        return VALID
    return UNKNOWN if isinstance(error, UnknownError) else INVALID
