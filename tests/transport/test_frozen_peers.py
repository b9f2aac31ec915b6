"""A frozen peer keeps its connections open in silence: only pings detect it."""

import asyncio
import signal
import sys
import time

import grpc
import grpc.aio
import pytest

from lab.transport import open_channel
from tests.raw_calls import server_stream
from tests.transport.servers import SERVER

WATCH = "/grpc.health.v1.Health/Watch"
LONG_S = 60.0


@pytest.mark.parametrize("carries_requests", [True, False])
async def test_a_frozen_peer_is_given_up_long_before_the_deadline(carries_requests: bool) -> None:  # noqa: FBT001
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, "0", stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        async with open_channel(f"127.0.0.1:{port}", carries_requests=carries_requests) as channel:
            # It answers at first and then stays open, as a long stream does.
            stream = server_stream(channel, WATCH)(b"", timeout=LONG_S if carries_requests else 8.0)
            assert await stream.read() is not grpc.aio.EOF
            process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stream.read()
            noticed = failed.value.code() is grpc.StatusCode.UNAVAILABLE
            assert noticed == carries_requests
            assert time.monotonic() - began < LONG_S
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        await process.wait()
