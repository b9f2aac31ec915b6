"""Servers to connect to, and the certificates of their units."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from lab.identity import Identity
from lab.identity.authority import Authority, folder_of
from lab.transport.security import MTLS, Security

WHO = "/test.Echo/Who"
SERVER = """
import asyncio, sys
from lab.transport import listen, new_server

async def main():
    server, _ = new_server()
    port = listen(server, f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
"""For ``python -c``, with a port, 0 for a free one; prints the port once it serves."""


def answering(who: Callable[[Any], bytes]) -> grpc.GenericRpcHandler:
    """Handles :data:`WHO` with what a function makes of the call's context."""

    async def answer(_request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0)
        return who(context)

    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    return grpc.method_handlers_generic_handler("test.Echo", {"Who": method})


def secured(authority: Authority, role: str, name: str, *, lifetime_s: float | None = None) -> Security:
    """Issues a unit's certificate, and returns its security."""
    authority.issue(name, Identity(role, name), {"127.0.0.1"}, lifetime_s=lifetime_s)
    return Security(MTLS, str(folder_of(authority.folder, name)))
