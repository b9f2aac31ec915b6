"""The checks, one file each.

:data:`CHECKS` finds them here, at the entry points of the group ``routing_lab.conformance``, and in the files of
``--plugin``.
"""

from lab.plugins.conform.check import Check
from lab.registry import Registry

CHECKS = Registry(Check, package=__name__, group="routing_lab.conformance", noun="check")
"""All checks, by name."""
