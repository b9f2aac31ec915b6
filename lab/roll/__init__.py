"""Rolling a model's traffic to another version in steps, with evidence at each step, and back if that is bad.

Here belongs what a roll decides: tables, judgements, when to stop. How load is driven and how a table is published
lives elsewhere, and is handed in.
"""

from lab.roll.conditions import DEFAULT_CONDITIONS, parse_conditions
from lab.roll.executor import Held, Outcome, RollOptions, RollProgress, RollResult, execute
from lab.roll.interrupts import Interruption

__all__ = [
    "DEFAULT_CONDITIONS",
    "Held",
    "Interruption",
    "Outcome",
    "RollOptions",
    "RollProgress",
    "RollResult",
    "execute",
    "parse_conditions",
]
