"""A minimal re-serialising gRPC proxy: the yardstick for the cost of the gateway's own work.

``python -m lab.plugins.bench.harness.minimal_proxy LISTEN UPSTREAM…``: the ``ip:port`` to serve on, and that
of each model replica.
"""

from __future__ import annotations

import asyncio
import sys

import grpc

from lab.transport import listen, new_server, open_channel, run_service
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc


async def serve(stop: asyncio.Event, address: str, upstream: list[str]) -> None:
    """Parses and re-serialises ``ranking.v1 Rank`` in both directions, and does nothing else."""
    async with open_channel(*upstream) as channel:
        stub = ranking_pb2_grpc.RankingStub(channel)

        async def rank(request: ranking_pb2.RankRequest, _context: object) -> ranking_pb2.RankResponse:
            return await stub.Rank(request)

        parse, serialise = ranking_pb2.RankRequest.FromString, ranking_pb2.RankResponse.SerializeToString
        method = grpc.unary_unary_rpc_method_handler(rank, parse, serialise)
        server, _ = new_server(handlers=[grpc.method_handlers_generic_handler("ranking.v1.Ranking", {"Rank": method})])
        listen(server, address)
        await server.start()
        await stop.wait()
        await server.stop(grace=5)


if __name__ == "__main__":
    run_service(lambda stop: serve(stop, sys.argv[1], sys.argv[2:]))
