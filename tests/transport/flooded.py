"""``python -m tests.transport.flooded``: a unit's servers without a unit; prints their ports."""

from __future__ import annotations

import asyncio
import sys

from lab.transport import RestServer, listen, new_server, run_service
from lab.transport.rest_server import HttpReply, HttpRequest


async def _serve(stop: asyncio.Event) -> None:
    async def answer(request: HttpRequest) -> HttpReply:
        return HttpReply(200, b'{"bytes":%d}' % len(await request.read()))

    server, _ = new_server()
    rest = RestServer(answer)
    ports = listen(server, "127.0.0.1:0"), rest.listen("127.0.0.1:0")
    await server.start()
    sys.stdout.write(" ".join(map(str, ports)) + "\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop(0)
    await rest.close()


if __name__ == "__main__":
    run_service(_serve)
