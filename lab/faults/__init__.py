"""Faults: what can be done to the units of a lab that is up.

Here belongs what a fault is to a lab, and how it is undone. How a runtime does it is said by ``lab.runtime``.
"""

from lab.faults.hands import Hands

__all__ = ["Hands"]
