"""The kinds of faults: name, options and levels, how each is injected, observed and healed. One file adds a kind.

:data:`FAULTS` finds them here, at the entry points of the group ``routing_lab.faults``, and in the files of
``--plugin``. What several kinds share is in ``lab.faults``.
"""

from lab.faults.fault_kind import FaultKind
from lab.registry import Registry

FAULTS: Registry[FaultKind] = Registry(
    FaultKind,  # type: ignore[type-abstract] # its values are of concrete subclasses
    package=__name__,
    group="routing_lab.faults",
    noun="fault",
)
"""All kinds, by name."""
