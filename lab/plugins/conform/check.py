"""What a check is, and what it finds."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage
    from lab.plugins.conform.table import Route

Figure = int | float | str


class Verdict(StrEnum):
    """Whether a proxy has a feature; unknown if that could not be tried."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        reason: what was seen and what to do; empty for a pass.
        figures: what was measured, by name with its unit.
    """

    verdict: Verdict
    reason: str
    figures: Mapping[str, Figure]


def passed(**figures: Figure) -> Finding:
    """The proxy has the feature."""
    return Finding(Verdict.PASS, "", figures)


def failed(reason: str, **figures: Figure) -> Finding:
    """The proxy lacks the feature; the reason says what was seen, and what to look at."""
    return Finding(Verdict.FAIL, reason, figures)


def unknown(reason: str, **figures: Figure) -> Finding:
    """It could not be tried; the reason says why, and what would help."""
    return Finding(Verdict.UNKNOWN, reason, figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One feature: a file that defines such a value adds one, see :mod:`lab.plugins.conform.kinds`.

    Attributes:
        name: by which users ask for it.
        claim: what holds for a proxy that passes, in one sentence.
        upstream: the same test of another suite, by the name that it has there; empty if there is none.
        routes: that the proxy must have; all checks' routes are in force at once, so keys must differ between checks.
        models: that its changes need beside those of its routes.
        run: tries it. What it raises makes the verdict unknown.
        changes: whether it changes the proxy's routes, for which a control is needed.
        only: name of the form of requests that it is for; empty for all, see :mod:`lab.plugins.conform.forms`.
        drains: whether it ends the proxy, for which a control is needed that can; such a check runs last.
    """

    name: str
    claim: str
    upstream: str = ""
    routes: tuple[Route, ...] = ()
    models: tuple[str, ...] = ()
    run: Callable[[Stage], Awaitable[Finding]]
    changes: bool = False
    drains: bool = False
    only: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of one check, as all reports show it.

    Attributes:
        feature: name of the check.
        seconds: that it took.
    """

    feature: str
    claim: str
    upstream: str
    verdict: Verdict
    reason: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def of(cls, check: Check, finding: Finding, began: float) -> Self:
        """What a check has found that began at this time of ``time.monotonic``."""
        return cls(
            feature=check.name,
            claim=check.claim,
            upstream=check.upstream,
            verdict=finding.verdict,
            reason=finding.reason,
            figures=finding.figures,
            seconds=round(time.monotonic() - began, 2),
        )
