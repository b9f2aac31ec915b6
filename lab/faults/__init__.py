"""Faults: what can be done to a lab that is up, on purpose, and how it is seen and undone.

Here belongs what a fault is to a lab; how a runtime does it is said by ``lab.runtime``. The kinds stand in
``registry``; ``carry_out`` injects and heals them; ``hands`` are the acts on units that some of them consist of.
"""

from lab.faults.face import Faulting
from lab.faults.injector import Fault, Faults
from lab.faults.journal import AuditLog, Journal
from lab.faults.observation import Observation, Visible
from lab.faults.registry import KINDS
from lab.faults.unit_operations import Hands

__all__ = ["KINDS", "AuditLog", "Fault", "Faulting", "Faults", "Hands", "Journal", "Observation", "Visible"]
