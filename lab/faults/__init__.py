"""Faults: injected into a lab that is up, observed by their effect, and healed; and operations on single units.

``kinds`` has one file a fault, ``injector`` injects and heals them, ``unit_operations`` kills, pauses and scales units.
How a runtime does that is in ``lab.runtime``.
"""

from lab.faults.injector import Fault, Injector
from lab.faults.journal import AuditLog, Journal
from lab.faults.kinds import FAULTS
from lab.faults.observation import Observation, Visible
from lab.faults.unit_operations import UnitOperations

__all__ = [
    "FAULTS",
    "AuditLog",
    "Fault",
    "Injector",
    "Journal",
    "Observation",
    "UnitOperations",
    "Visible",
]
