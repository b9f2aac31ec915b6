"""The gateway's access log: one line of JSON a request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.transport.request_log import RequestLog

if TYPE_CHECKING:
    from pathlib import Path

_FIELDS = ("request_id", "use_case", "caller", "routing_key", "revision", "status", "ms")


class AccessLog(RequestLog):
    """Appends to a file, in batches.

    Args:
        path: the file; None logs nothing.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, _FIELDS)

    def add(
        self, *, request_id: str, use_case: str, caller: str, key: str, revision: int, status: str, began: float
    ) -> None:
        """Logs a request that is done; ``began`` as by :func:`time.monotonic`."""
        ms = (time.monotonic() - began) * 1000
        self.write(request_id, use_case, caller, key, revision, status, ms)
