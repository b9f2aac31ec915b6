"""A caller in a process of its own: ``python -m tests.client.one_caller RESOLVER SIDECAR``.

For each line on standard input it begins a request; it prints each answer's revision, in the order of the lines. For
the line ``hold`` it prints ``held`` once it holds leases.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from lab.client.strategies import Leased
from lab.errors import CallError
from tests.parts import client_of, rank_request

if TYPE_CHECKING:
    from lab.client import Client

_READY_S = 10.0
_CONTEXT = {"device": "tv", "user_id": "u1"}


async def _serve(resolver: str, sidecar: str) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    answers: asyncio.Queue[asyncio.Task[str]] = asyncio.Queue()
    printing = asyncio.create_task(_print(answers))
    async with client_of("mesh", resolver=(resolver,), sidecar=(sidecar,)) as client:
        while line := await lines.readline():
            answer = _held(client) if line == b"hold\n" else _revision(client)
            answers.put_nowait(asyncio.create_task(answer))
    printing.cancel()


async def _revision(client: Client) -> str:
    try:
        return str((await client.call("HomepageRows", rank_request(), _CONTEXT)).revision)
    except CallError as error:
        return str(error)


async def _held(client: Client) -> str:
    assert isinstance(client.strategy, Leased)
    await client.strategy.watch.ready(_READY_S)
    return "held"


async def _print(answers: asyncio.Queue[asyncio.Task[str]]) -> None:
    while True:
        sys.stdout.write(f"{await (await answers.get())}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
