"""The resolver's access log: one line of JSON a question.

Leases answer most requests, and requests share questions in flight: most requests leave no line here.
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
    answer = decision or resolver_pb2.Decision()
    question = (headers.get(REQUEST_ID, ""), request.use_case, request.context.caller)
    return (*question, answer.rule, answer.routing_key, answer.revision)
