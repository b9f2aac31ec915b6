"""Your own checker, with its own evidence: how much memory did each unit have at the end of the run?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lab.checkers import Checker, Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.runs import RunContext

NAME = "memory-budget"
BUDGET_MB = 256.0


def gather(context: RunContext) -> Mapping[str, int]:
    """Returns each unit's memory, bytes."""
    return context.runtime.memory_bytes(context.state.running)


def check(evidence: Evidence) -> Verdict:
    """Compares each unit's memory with :data:`BUDGET_MB`.

    Returns:
        Invalid if one had more; unknown if the run was made without this checker.
    """
    found = evidence.gathered.get(NAME)
    if not found:
        return Verdict(NAME, Outcome.UNKNOWN, "nobody measured memory: give --plugin to `lab load`, too")
    over = [f"{unit}: {size / 1e6:.0f} MB" for unit, size in found.items() if size > BUDGET_MB * 1e6]
    violations = tuple(Violation(NAME, -1, "", each) for each in over)
    summary = f"{len(over)} of {len(found)} units over {BUDGET_MB:.0f} MB"
    return Verdict(NAME, Outcome.INVALID if over else Outcome.VALID, summary, violations)


CHECKER = Checker(
    name=NAME, question="Did each unit stay within its memory?", claim=Claim.AVAILABILITY, gather=gather, check=check
)
