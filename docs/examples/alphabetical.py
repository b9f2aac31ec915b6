"""A custom model server: it ranks titles alphabetically, and joins a cluster of a running lab.

``python -m docs.examples.alphabetical CONTROL_PLANE CLUSTER``, with the control plane's ``host:port`` from
``lab endpoints``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc

from lab.routing.keys import HEADER
from lab.transport import listen, new_server, run_service
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from models.stub.admission import Refused, select
from models.stub.behaviour import Behaviour, LiveBehaviour
from models.stub.registration import Registration
from models.stub.versions import Identity, Versions

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

NAME = "alphabetical"


class Alphabetical(ranking_pb2_grpc.RankingServicer):
    """Serves ``ranking.v1`` for every model version: ranks by id."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    async def Rank(self, request: ranking_pb2.RankRequest, context: Context) -> ranking_pb2.RankResponse:  # noqa: N802
        """Returns all titles in the order of their ids."""
        config = request.envelope.model_config
        keys = [str(value) for name, value in context.invocation_metadata() or () if name == HEADER]
        try:
            # Verifies that header and body name the same version, and that it is assigned to this replica.
            loaded = select(config.model, config.version, keys, self._versions.loaded, NAME)
        except Refused as refused:
            await context.abort(refused.code, refused.message)
        ids = sorted(title.id for title in request.titles)
        titles = [ranking_pb2.RankedTitle(id=each, score=1 / place) for place, each in enumerate(ids, start=1)]
        return ranking_pb2.RankResponse(answered_by=loaded.answered_by, titles=titles)

    async def RankStream(  # noqa: N802
        self, request: ranking_pb2.RankRequest, context: Context
    ) -> AsyncIterator[ranking_pb2.RankStreamResponse]:
        """Streams the same titles one by one."""
        whole = await self.Rank(request, context)
        for title in whole.titles:
            yield ranking_pb2.RankStreamResponse(answered_by=whole.answered_by, title=title)


async def serve(stop: asyncio.Event, control_plane: str, cluster: str) -> None:
    """Serves, and stays registered, until ``stop`` is set."""
    server, _ = new_server()
    address = f"127.0.0.1:{listen(server, '127.0.0.1:0')}"
    versions = Versions(Identity(cluster, NAME, address), LiveBehaviour(Behaviour()))
    ranking_pb2_grpc.add_RankingServicer_to_server(Alphabetical(versions), server)
    await server.start()
    registration = Registration(control_plane, versions)
    registering = asyncio.create_task(registration.run())
    await stop.wait()
    # Deregister before stopping, so that no request fails.
    registration.start_draining()
    async with asyncio.timeout(1):
        await registration.drain_reported.wait()
    await server.stop(grace=1)
    registering.cancel()


if __name__ == "__main__":
    run_service(lambda stop: serve(stop, *sys.argv[1:3]))
