"""A replica's REST API: ``POST /v1/ranking:rank``, ``POST /v1/fraud:score``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.rest import RESOURCES, Rest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lab.transport.authorization import Guard
    from models.rest import Handler
    from models.stub.serving import Fraud, Ranking


def rest_of(ranking: Ranking, fraud: Fraud, ready: Callable[[], Awaitable[bool]], guard: Guard | None = None) -> Rest:
    """The application that answers a replica's HTTP requests; see :class:`models.rest.Rest`."""
    handlers: dict[str, Handler] = {"/ranking.v1.Ranking/Rank": ranking.Rank, "/fraud.v1.Fraud/Score": fraud.Score}
    return Rest(
        handlers=lambda method: handlers[method.path],
        find=RESOURCES.get,
        paths=", ".join(f"POST {path}" for path in RESOURCES),
        ready=ready,
        guard=guard,
    )
