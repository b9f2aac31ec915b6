"""A rotating channel can be closed at any moment of a rotation."""

import asyncio
import itertools
from collections.abc import Callable
from typing import cast

import grpc.aio
import pytest

from lab.transport import rotating_channel
from tests.waiting import eventually

WITHIN_S = 5.0


class Connecting:
    """A fake gRPC channel: the moment in which a real one connects cannot be hit."""

    def __init__(self) -> None:
        self.connecting, self.connected = asyncio.Event(), asyncio.Event()
        self.closed = False

    async def channel_ready(self) -> None:
        self.connecting.set()
        await self.connected.wait()

    async def close(self, _grace: float | None = None) -> None:
        self.closed = True


@pytest.mark.parametrize("steps", range(4))
async def test_closing_while_the_next_channel_connects_closes_both(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(rotating_channel, "_POLL_S", 0.0)
    made: list[Connecting] = []

    def open_now() -> Connecting:
        made.append(Connecting())
        return made[-1]

    certificates = itertools.count()
    channel = rotating_channel.RotatingChannel(
        cast("Callable[[], grpc.aio.Channel]", open_now), lambda: str(next(certificates))
    )
    async with asyncio.timeout(WITHIN_S):
        await eventually("a second channel is made", lambda: len(made) == 2)
        await made[1].connecting.wait()
        made[1].connected.set()
        for _ in range(steps):  # of the event loop, until it hears of it
            await asyncio.sleep(0)
        await channel.close()
    assert all(each.closed for each in made)
