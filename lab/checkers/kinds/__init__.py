"""The checkers, one file each.

:data:`CHECKERS` finds them here, at the entry points of the group ``routing_lab.checkers``, and in the files of
``--plugin``. What several of them share is in ``lab.checkers``.
"""

from lab.checkers.checker import Checker
from lab.registry import Registry

CHECKERS = Registry(Checker, package=__name__, group="routing_lab.checkers", noun="checker")
"""All checkers, by name."""
