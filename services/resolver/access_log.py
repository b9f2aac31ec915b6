"""One line of JSON a question that a resolver was asked.

A lease answers most requests, and who joins a question under way asks none: most requests leave no line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.routing.headers import REQUEST_ID
from models.proto.control.v1 import resolver_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

LOG_FIELDS = ("request_id", "use_case", "caller", "rule", "routing_key", "revision", "status", "ms")
RESOLVE = "/control.v1.Resolver/Resolve"


def described(
    headers: Mapping[str, str], request: resolver_pb2.ResolveRequest, decision: resolver_pb2.Decision | None
) -> tuple[object, ...]:
    """Values of the fields before ``status``."""
    told = decision or resolver_pb2.Decision()
    asked = (headers.get(REQUEST_ID, ""), request.use_case, request.context.caller)
    return (*asked, told.rule, told.routing_key, told.revision)
