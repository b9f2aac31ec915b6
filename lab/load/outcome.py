"""The outcome of one request, in the fields of its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lab.history import NONE_SEEN, UNSENT
from models.context import origin_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client import Answer
    from lab.errors import CallError
    from models.apis import Api


class LoadClient(Protocol):
    """The client that requests are sent through; :class:`lab.client.Client` is one."""

    async def ready(self) -> None:
        """Returns once requests can be sent."""

    async def call(self, use_case: str, request: Any, context: Mapping[str, str], *, request_id: str) -> Answer:
        """Sends one request. Fills and serialises ``request`` without yielding, so that calls may share it.

        Raises:
            CallError: it failed.
        """

    async def close(self) -> None:
        """Closes all connections."""


class Outcome(NamedTuple):
    """The fields of a :class:`lab.history.Record` that are known only after the request; see there."""

    status: str
    message: str = ""
    source: str = ""
    routing_key: str = ""
    revision: int = 0
    model: str = ""
    version: str = ""
    cluster: str = ""
    replica: str = ""
    served_revision: int = 0
    attempts: int = 1
    item_id: str = ""
    score: float = 0.0
    shadow: str = ""
    seen_origin: str = ""
    seen_tenant: str = ""


NEVER_SENT = Outcome(UNSENT, "the driver was stopped before its turn", attempts=0)


def answered(answer: Answer, api: Api) -> Outcome:
    """The outcome of a request that was answered, by a model or by default."""
    by = answer.response.answered_by
    item_id, score = api.first_item(answer.response)
    return Outcome(
        status="OK",
        source=answer.source,
        routing_key=answer.routing_key,
        revision=answer.revision,
        model=by.model,
        version=by.version,
        cluster=by.cluster,
        replica=by.replica,
        served_revision=by.revision,
        attempts=answer.attempts,
        item_id=item_id,
        score=score,
        shadow=answer.shadow,
        seen_origin=(origin_name(by) or NONE_SEEN) if by.HasField("traffic_origin") else "",
        seen_tenant=by.tenant,
    )


def failed(error: CallError) -> Outcome:
    """The outcome of a request that failed."""
    return Outcome(
        status=error.code.name,
        message=error.message,
        routing_key=error.routing_key,
        revision=error.revision,
        attempts=error.attempts,
        shadow=error.shadow,
    )
