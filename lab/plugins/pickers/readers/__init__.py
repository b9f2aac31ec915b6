"""The policies of pickers a second time: which picks each allowed, with what it had seen.

A reader follows the log of one gateway's picks for one routing key: for each pick it says which replicas the policy
could have taken, then learns which one was. A picker from outside brings its own, a :class:`PickReader`.
"""

from lab.plugins.pickers.readers._reader import READERS, Asked, PickReader, Reader, Seen, Wait
from lab.plugins.pickers.readers._ring import on_ring
from lab.plugins.pickers.readers._staleness import is_stale, without_stale

__all__ = ["READERS", "Asked", "PickReader", "Reader", "Seen", "Wait", "is_stale", "on_ring", "without_stale"]
