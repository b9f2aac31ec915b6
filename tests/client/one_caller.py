"""A caller in its own process: ``python -m tests.client.one_caller RESOLVER SIDECAR``.

It begins a request every millisecond, and prints for each when it began, by the system's monotonic clock, and the
revision that answered it, or why none did.
"""

from __future__ import annotations

import asyncio
import sys
import time

from lab.client import Client
from lab.client.strategies import Leased
from lab.errors import CallError
from tests.parts import client_of, rank_request

_CONTEXT = {"device": "tv", "user_id": "u1"}
_EVERY_S = 0.001
_READY_S = 10.0


async def _run(resolver: str, sidecar: str) -> None:
    async with client_of("mesh", resolver=(resolver,), sidecar=(sidecar,)) as client, asyncio.TaskGroup() as requests:
        assert isinstance(client.strategy, Leased)
        watch = client.strategy.watch
        while True:
            requests.create_task(_ask(client, held=time.monotonic() < watch.holds_until))
            await asyncio.sleep(_EVERY_S)


async def _ask(client: Client, *, held: bool) -> None:
    began = time.monotonic()
    try:
        answer = str((await client.call("HomepageRows", rank_request(), _CONTEXT)).revision)
    except CallError as error:
        answer = str(error)
    sys.stdout.write(f"{began} {'held' if held else 'asked'} {answer}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
