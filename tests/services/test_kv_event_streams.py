"""A gateway follows a replica's KV events, and after a broken stream asks for those that it has missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from models.proto.control.v1 import picks_pb2
from services.gateway import picks
from services.gateway.attempts_in_flight import AttemptsInFlight
from services.gateway.picks import Signal, SignalSettings
from tests.waiting import eventually


class Broken:
    """A connection to a replica whose streams break after two batches."""

    def __init__(self) -> None:
        self.channel = self
        self.asked: list[tuple[int, int]] = []

    def raw(self, _: str) -> Any:
        return None

    def raw_stream(self, _: str) -> Any:
        return self.stream

    async def stream(self, raw: bytes) -> AsyncIterator[bytes]:
        request = picks_pb2.FollowKvEventsRequest.FromString(raw)
        self.asked.append((request.sequence, request.began_ns))
        for number in (request.sequence, request.sequence + 1):
            yield picks_pb2.KvEventBatch(sequence=number, payload=b"p", began_ns=7).SerializeToString()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())


async def test_a_broken_stream_is_followed_from_the_first_batch_that_is_missing(monkeypatch: Any) -> None:
    monkeypatch.setattr(picks, "_LEAST_TIMEOUT_S", 0.001)
    connection: Any = Broken()
    heard: list[tuple[str, int, bytes]] = []
    settings = SignalSettings("counted", 0)

    signal = Signal(settings, connection, "a:1", AttemptsInFlight(1.0), lambda *batch: heard.append(batch))
    await eventually("four batches", lambda: len(heard), until=lambda number: number >= 4)
    signal.stop()
    await asyncio.sleep(0)

    assert heard[:4] == [("a:1", number, b"p") for number in range(4)]
    assert connection.asked[:2] == [(0, 0), (2, 7)]
