"""Load engines: one file each, which decides when and by whom the requests of a run are sent.

:data:`ENGINES` finds them here, at the entry points of the group ``routing_lab.engines``, and in the files of
``--plugin``. What several engines share is beside this package.
"""

from lab.load.engines._engine import Engine, Option
from lab.load.engines._registry import ENGINES, engine_before_names

__all__ = ["ENGINES", "Engine", "Option", "engine_before_names"]
