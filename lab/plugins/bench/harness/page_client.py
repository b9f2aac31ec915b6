"""Asks a caller for pages, or for single calls in the same bursts, open loop; every answer is checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import uvloop

from lab.errors import UnitError
from lab.plugins.bench.harness.variant import MODEL, VERSION
from lab.plugins.pages.driver import Retries
from lab.routing.headers import RETRIES_LEFT
from lab.topologies import open_client
from lab.transport import open_channel
from models.apis import APIS
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc

if TYPE_CHECKING:
    import grpc.aio

    from lab.client import Client, Endpoints

PAYLOAD_BYTES, API = 400, APIS["ranking.v1"]
_TIMEOUT_S = 10.0
_USERS = 1_000


@dataclass(frozen=True, slots=True)
class Asked:
    """One trial. Times are milliseconds from the sending of each request.

    Attributes:
        took_ms: of each page, single call or way, as its sender sees it.
        attempts: at models, for each inference call.
    """

    took_ms: list[float]
    attempts: float


class PageClient:
    """Asks in one event loop for all of its life, by connections that stay open; a context manager."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._clients: dict[tuple[str, str], Client] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        async def close() -> None:
            for client in self._clients.values():
                await client.close()
            for channel in self._channels.values():
                await channel.close()

        self._runner.run(close())
        self._runner.close()

    def ask_pages(
        self,
        address: str,
        topology: str,
        times_s: Sequence[float],
        *,
        calls: int,
        percent: int | None = None,
        model: str = MODEL,
        fails: bool = False,
    ) -> Asked:
        """Asks for a page at each of some times, from the beginning of the trial.

        Args:
            address: of the caller.
            topology: of all calls.
            times_s: when.
            calls: of a page, those of other callers' pages included.
            percent: retries that pages may take for each hundred calls; None for as many as the route table allows.
            model: that answers.
            fails: whether it may fail.

        Raises:
            UnitError: an answer is wrong or missing.
        """
        retries = None if percent is None else Retries(percent, calls)
        attempts = 0

        async def ask(channel: grpc.aio.Channel, number: int) -> float:
            nonlocal attempts
            taken = retries.take() if retries else 0
            metadata = ((RETRIES_LEFT, str(taken)),) if retries else ()
            request = caller_pb2.GetPageRequest(topology=topology, payload_bytes=PAYLOAD_BYTES)
            request.context.user_id = f"u{number % _USERS}"
            began = time.perf_counter()
            page = await caller_pb2_grpc.PagesStub(channel).GetPage(request, timeout=_TIMEOUT_S, metadata=metadata)
            took_ms = (time.perf_counter() - began) * 1_000
            sections = list(_leaves(page))
            if retries:
                retries.give_back(taken - page.retries, calls)
            if len(sections) != calls:
                raise UnitError(f"a page of {calls} calls has {len(sections)} sections")
            for each in sections:
                attempts += each.attempts
                _require_right(each, model, fails=fails)
            return took_ms

        took_ms = self._runner.run(self._by_channel(address, times_s, ask))
        return Asked(took_ms, attempts / (len(took_ms) * calls))

    def ask_calls(
        self, caller: str, endpoints: Endpoints, topology: str, use_case: str, times_s: Sequence[float], *, burst: int
    ) -> Asked:
        """Makes single calls in a caller's place, several at each of some times; ``took_ms`` has burst after burst.

        Raises:
            UnitError: an answer is wrong or missing.
        """

        async def all_of_them() -> list[float]:
            client = self._clients.get((topology, caller))
            if client is None:
                client = self._clients[topology, caller] = open_client(topology, caller, endpoints)

            async def ask(number: int) -> float:
                message, began = API.build_request(PAYLOAD_BYTES), time.perf_counter()
                user = {"user_id": f"u{number % _USERS}"}
                answer = await client.call(use_case, message, user, request_id=client.new_request_id())
                took_ms = (time.perf_counter() - began) * 1_000
                _require_right(caller_pb2.CallResult(answered_by=answer.response.answered_by), MODEL)
                return took_ms

            return await _at(times_s, burst, ask)

        return Asked(self._runner.run(all_of_them()), 1.0)

    def ask_ways(self, address: str, topology: str, use_case: str, times_s: Sequence[float]) -> Asked:
        """Asks a caller for single calls; ``took_ms`` has their way to the caller and back. See :func:`ask_pages`.

        Raises:
            UnitError: an answer is wrong or missing.
        """

        async def ask(channel: grpc.aio.Channel, number: int) -> float:
            request = caller_pb2.CallRequest(use_case=use_case, topology=topology, payload_bytes=PAYLOAD_BYTES)
            request.context.user_id = f"u{number % _USERS}"
            began = time.perf_counter()
            answer = await caller_pb2_grpc.CallerStub(channel).Call(request, timeout=_TIMEOUT_S)
            took_ms = (time.perf_counter() - began) * 1_000
            _require_right(answer, MODEL)
            return max(0.0, took_ms - answer.latency_ms)

        return Asked(self._runner.run(self._by_channel(address, times_s, ask)), 1.0)

    async def _by_channel(
        self, address: str, times_s: Sequence[float], ask: Callable[[grpc.aio.Channel, int], Awaitable[float]]
    ) -> list[float]:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = open_channel(address)
        async with asyncio.timeout(_TIMEOUT_S):
            await channel.channel_ready()
        return await _at(times_s, 1, lambda number: ask(channel, number))


async def _at(times_s: Sequence[float], burst: int, ask: Callable[[int], Awaitable[float]]) -> list[float]:
    """Asks at the times, so often at each, and returns what each took, in this order."""
    began = time.perf_counter()

    async def at(number: int) -> float:
        await asyncio.sleep(max(0.0, began + times_s[number // burst] - time.perf_counter()))
        return await ask(number)

    return await asyncio.gather(*map(at, range(len(times_s) * burst)))


def _leaves(page: caller_pb2.Page) -> Sequence[caller_pb2.CallResult]:
    return [leaf for each in page.sections for leaf in (_leaves(each.page) if each.HasField("page") else (each,))]


def _require_right(answer: caller_pb2.CallResult, model: str, *, fails: bool = False) -> None:
    by = answer.answered_by
    if answer.error and fails:
        return
    if answer.error or (by.model, by.version) != (model, VERSION):
        raise UnitError(f"{answer.use_case}: {answer.error or f'answered by {by.model}@{by.version}'}")
