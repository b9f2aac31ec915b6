"""Progressive rollout: shifts a model's traffic to another version in steps, judges each step, rolls back if it is bad.

Load and publishing are passed in, so that this package holds the decisions alone: tables, judgements, when to stop.
"""

from lab.roll.conditions import DEFAULT_CONDITIONS, parse_conditions
from lab.roll.executor import Outcome, RollOptions, RollProgress, RollResult, StepResult, execute
from lab.roll.interrupts import InterruptHandler

__all__ = [
    "DEFAULT_CONDITIONS",
    "InterruptHandler",
    "Outcome",
    "RollOptions",
    "RollProgress",
    "RollResult",
    "StepResult",
    "execute",
    "parse_conditions",
]
