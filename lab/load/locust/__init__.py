"""Locust as the engine that people steer: its users, its workers, its web UI; the requests are the lab's own.

Here belongs what knows Locust. It runs in processes of its own and nothing outside imports it, but for locustfiles,
which take :class:`LabUser` from here. Why nothing is monkey-patched stands in docs/decisions/0011.
"""

import os

os.environ.setdefault("LOCUST_SKIP_MONKEY_PATCH", "1")  # before Locust is first imported

from lab.load.locust.user import LabUser

__all__ = ["LabUser"]
