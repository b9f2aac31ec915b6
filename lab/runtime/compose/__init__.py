"""The compose runtime: each unit a container, all of them one Docker Compose project.

Here belongs everything that knows of Docker. Which units there are is said by ``lab.plan``.
"""

from lab.runtime.compose.engine import why_not
from lab.runtime.compose.runtime import ComposeRuntime

__all__ = ["ComposeRuntime", "why_not"]
