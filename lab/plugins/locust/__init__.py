"""Locust as a load engine: users, workers and web UI; the requests are sent by the lab's own client.

All code that imports Locust belongs here. It runs in processes of its own; only locustfiles import :class:`LabUser`
from outside. docs/decisions/0011 says why nothing is monkey-patched.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.plugins.locust.user import LabUser

__all__ = ["LabUser"]

os.environ.setdefault("LOCUST_SKIP_MONKEY_PATCH", "1")  # before the first import of Locust


def __getattr__(name: str) -> Any:
    """Imports Locust for the first locustfile, not for every command that lists engines."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lab.plugins.locust.user import LabUser  # noqa: PLC0415 (see above)

    return LabUser
