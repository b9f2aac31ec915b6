"""A routing proxy that knows nothing of the lab: for each routing key a channel to its models.

``python docs/examples/own_proxy.py 8080 routes.json``; SIGHUP makes it read the file again, SIGTERM ends it gracefully.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 65_536))
BALANCED = ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')


class Proxy(grpc.GenericRpcHandler):
    """Forwards every method as a stream of bytes."""

    def __init__(self, file: Path) -> None:
        self.file, self.header = file, ""
        self.added: tuple[tuple[str, str], ...] = ()
        self.channels: dict[str, grpc.aio.Channel] = {}

    def read(self) -> None:
        """Puts the file's routes in force; passes over routes that need more than the key."""
        table, channels = json.loads(self.file.read_text()), {}
        for route in table["routes"]:
            if route.keys() <= {"key", "backends"}:
                models = "ipv4:" + ",".join(each["address"] for each in route["backends"])
                channels[route["key"]] = grpc.aio.insecure_channel(models, options=(*OPTIONS, BALANCED))
        self.header, self.channels = table["header"], channels
        self.added = tuple(table.get("added headers", {}).items())

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Takes every method."""
        return grpc.stream_stream_rpc_method_handler(partial(self.forward, handler_call_details.method))

    async def forward(self, method: str, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Sends a request to a model of its key, and passes on what comes back."""
        headers = [each for each in context.invocation_metadata() if each[0] not in {"user-agent", "te"}]
        keys = [value for name, value in headers if name == self.header]
        if len(keys) != 1 or keys[0] not in self.channels:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"no route for {keys}")
        send: Any = self.channels[keys[0]].stream_stream(method)
        call = send(requests, timeout=context.time_remaining(), metadata=(*headers, *self.added))
        try:
            await context.send_initial_metadata(await call.initial_metadata())
            async for response in call:
                yield response
            context.set_trailing_metadata(await call.trailing_metadata())
            if await call.code() is not grpc.StatusCode.OK:
                await context.abort(await call.code(), await call.details(), await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details(), tuple(error.trailing_metadata() or ()))
        finally:
            call.cancel()


async def serve(port: str, file: Path) -> None:
    """Serves until SIGTERM."""
    proxy, ended = Proxy(file), asyncio.Event()
    proxy.read()
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((proxy,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, proxy.read)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(grace=10)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
