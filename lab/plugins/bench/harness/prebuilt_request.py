"""A serialised request, for senders of plain bytes: h2load, and closed loops."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lab.errors import UnitError
from lab.plugins.bench.harness.variant import API, CALLER, MODEL, USE_CASE, VERSION
from lab.routing.keys import HEADER
from lab.transport import open_channel
from models.apis import APIS

if TYPE_CHECKING:
    import grpc.aio

METHOD = APIS[API].unary
ROUTING_KEY = (HEADER, f"{MODEL}.{VERSION}")


def request(payload_bytes: int) -> bytes:
    """Returns a serialised request that every topology answers.

    It names its model for topologies without a decision on the way; a gateway overwrites the name.
    """
    message = APIS[API].build_request(payload_bytes)
    message.envelope.use_case = USE_CASE
    message.envelope.context.caller = CALLER
    message.envelope.context.user_id = "u1"
    message.envelope.model_config.model = MODEL
    message.envelope.model_config.version = VERSION
    return bytes(message.SerializeToString())


def frame(message: bytes) -> bytes:
    """Returns the message as an HTTP/2 gRPC frame: compression flag, length, bytes."""
    return struct.pack(">BI", 0, len(message)) + message


def check_answer(address: str, answer: bytes) -> None:
    """Checks that the right model version gave an answer.

    Raises:
        UnitError: another did.
    """
    by = METHOD.response_class.FromString(answer).answered_by
    if (by.model, by.version) != (MODEL, VERSION):
        raise UnitError(f"{address} was answered by {by.model}@{by.version}, not by {MODEL}@{VERSION}")


async def keep_busy(
    address: str, payload_bytes: int, cpu: Callable[[], float], *, in_flight: int, seconds: float, warm_up_s: float = 0
) -> tuple[int, float, float]:
    """Runs a closed loop; returns the number of answers after the warm-up, and their seconds and processor time.

    Args:
        address: where requests go.
        payload_bytes: of each.
        cpu: returns the processor time so far, in its unit.
        in_flight: number of requests at once.
        seconds: for how long, after the warm-up.
        warm_up_s: seconds before that.

    Raises:
        UnitError: the wrong model answered.
    """
    payload, count = request(payload_bytes), 0
    async with open_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD.path)
        check_answer(address, await call(payload))
        end = time.monotonic() + warm_up_s + seconds

        async def one_after_the_other() -> None:
            nonlocal count
            while time.monotonic() < end:
                await call(payload)
                count += 1

        senders = asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
        await asyncio.sleep(warm_up_s)
        before, warm, began = cpu(), count, time.monotonic()
        await senders
        return count - warm, time.monotonic() - began, cpu() - before
