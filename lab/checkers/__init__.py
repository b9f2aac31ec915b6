"""Verdicts: pure functions from a run's evidence to valid, invalid or unknown. No I/O, no gRPC.

``kinds`` has one file a checker. ``lab.runs`` gathers the evidence. ``plain`` is the oracle: an interpreter of route
tables that shares no code with the one that routes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import partial

from lab.checkers.checker import Checker
from lab.checkers.evidence import (
    Abilities,
    ArrivalGap,
    Driver,
    Evidence,
    FaultEffect,
    FaultWindow,
    MissingEvidenceError,
    ProbeAnswer,
    Registration,
    Registrations,
    RequestMix,
)
from lab.checkers.kinds import CHECKERS
from lab.checkers.revision_timeline import RevisionInForce
from lab.checkers.verdict import DEFAULT_CLAIMS, Claim, Outcome, TooFew, Verdict, Violation, by_claim, combine, worst

__all__ = [
    "CHECKERS",
    "DEFAULT_CLAIMS",
    "Abilities",
    "ArrivalGap",
    "Checker",
    "Claim",
    "Driver",
    "Evidence",
    "FaultEffect",
    "FaultWindow",
    "Outcome",
    "ProbeAnswer",
    "Registration",
    "Registrations",
    "RequestMix",
    "RevisionInForce",
    "TooFew",
    "Verdict",
    "Violation",
    "by_claim",
    "check",
    "combine",
    "silent",
    "worst",
]


def check(evidence: Evidence, checkers: Iterable[Checker] | None = None) -> list[Verdict]:
    """Returns the verdicts of these checkers, or of all; a checker whose subject the run lacks gives none.

    A checker that raises an error is unknown, never a pass; so is one that gives no verdict though it judges every run,
    or though the run should have evidence of its subject. Where evidence is missing, nothing but timing is valid; if
    the driver's clock was stepped during the run, nothing but timing is judged.
    """
    evidence = replace(evidence, explained=frozenset().union(*map(partial(_explained, evidence), CHECKERS.values())))
    verdicts = ((_judged(each, evidence), each.claim) for each in (CHECKERS.values() if checkers is None else checkers))
    found = [replace(verdict, claim=claim) for verdict, claim in verdicts if verdict is not None]
    if checkers is None:
        strange = {name: why for name, why in evidence.expected.items() if name not in CHECKERS}
        text = "{}, but there is no such checker here"
        found += [Verdict(name, Outcome.UNKNOWN, text.format(why)) for name, why in strange.items()]
    return found


def silent(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """Returns the checkers that gave no verdict, each with its subject, which the run does not have."""
    spoke = {each.checker for each in verdicts}
    return {name: each.subject for name, each in CHECKERS.items() if name not in spoke}


def _explained(evidence: Evidence, checker: Checker) -> Collection[str]:
    try:
        return checker.explains(evidence) if checker.explains is not None else ()
    except Exception:  # noqa: BLE001 (what its evidence cannot say explains nothing, and its verdict says why)
        return ()


def _judged(checker: Checker, evidence: Evidence) -> Verdict | None:
    try:
        verdict = checker.check(evidence)
    except MissingEvidenceError as missing:
        return Verdict(checker.name, Outcome.UNKNOWN, str(missing))
    except Exception as error:  # noqa: BLE001 (no error may look like a pass)
        return Verdict(checker.name, Outcome.UNKNOWN, f"the checker failed: {type(error).__name__}: {error}")
    if verdict is None and not checker.subject:
        return Verdict(checker.name, Outcome.UNKNOWN, "the checker gave no verdict, though it judges every run")
    why = evidence.expected.get(checker.name)
    if verdict is None and why and checker.absent is not None and checker.absent(evidence):
        return Verdict(checker.name, Outcome.UNKNOWN, f"{why}, but there is no evidence to judge")
    if verdict is None or checker.claim is Claim.TIMING:
        return verdict
    # Times that contradict each other prove neither that an answer was right nor that it was wrong.
    doubt = evidence.clock_jump or (evidence.missing if verdict.outcome is Outcome.VALID else "")
    return Verdict(checker.name, Outcome.UNKNOWN, f"{doubt}; {verdict.summary}") if doubt else verdict
