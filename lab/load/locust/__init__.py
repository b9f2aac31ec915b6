"""Locust, the interactive load engine: users, workers and web UI; the requests are sent by the lab's own client.

All code that imports Locust belongs here. It runs in processes of its own; only locustfiles import :class:`LabUser`
from outside. docs/decisions/0011 says why nothing is monkey-patched.
"""

import os

os.environ.setdefault("LOCUST_SKIP_MONKEY_PATCH", "1")  # before the first import of Locust

from lab.load.locust.user import LabUser

__all__ = ["LabUser"]
