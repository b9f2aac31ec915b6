"""The access log: one JSON line per gRPC request, shadow copies included; ``routing_key`` is the header's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.routing.keys import COPY, COPY_HEADER, HEADER
from lab.transport.request_log import LogsRequests, RequestLog
from models.apis import METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.apis import InferenceRequest

_FIELDS = ("request_id", "use_case", "routing_key", "copy", "status", "ms")


class AccessLog(RequestLog):
    """Appends to a file.

    Args:
        path: the file; None disables logging and its cost.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, _FIELDS)
        self.interceptors = () if path is None else (LogsRequests(self, METHODS, _described),)


def _described(headers: Mapping[str, str], request: InferenceRequest, response: object) -> tuple[object, ...]:
    del response
    envelope = request.envelope
    return (envelope.request_id, envelope.use_case, headers.get(HEADER, ""), headers.get(COPY_HEADER) == COPY)
