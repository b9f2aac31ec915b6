"""A caller that is stopped while a revision converges, and goes on afterwards."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from lab import CHECKOUT
from tests.parts import WITHIN_S, ControlPlane, Model, resolver_up, update, use_case

STOPS = 5
"""What a caller finds first when it goes on is a matter of chance."""
REQUESTS = 50

Request = tuple[float, str, str]
"""When it began, whether the caller held leases then, and the revision of its answer."""


class Caller:
    """The process of a caller, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def next(self) -> Request:
        """The next answer to a request of its."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        began, held, answer = line.decode().strip().split(" ", 2)
        return float(began), held, answer

    async def until(self, condition: Callable[[Request], bool]) -> Request:
        """The first request for which a condition holds."""
        async with asyncio.timeout(WITHIN_S):
            while not condition(request := await self.next()):
                pass
        return request


@asynccontextmanager
async def caller_up(resolver: str, sidecar: str) -> AsyncIterator[Caller]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.client.one_caller", resolver, sidecar),
        cwd=CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Caller(process)
    finally:
        process.kill()
        await process.wait()


def rows(revision: int) -> dict[str, dict[str, object]]:
    return {"HomepageRows": use_case(f"rows@v{revision % 2 + 1}")}


async def test_a_caller_that_was_stopped_during_a_publish_begins_no_request_by_the_rules_before(
    control_plane: ControlPlane, model: Model
) -> None:
    async with (
        resolver_up(control_plane.address) as resolver,
        caller_up(resolver, model.address) as caller,
    ):
        await control_plane.put_in_force(update(1, use_cases=rows(1)), "resolver")
        for revision in range(2, 2 + STOPS):
            await caller.until(lambda each: each[1:] == ("held", str(revision - 1)))  # noqa: B023 (awaited at once)
            caller.process.send_signal(signal.SIGSTOP)
            try:
                await control_plane.put_in_force(update(revision, use_cases=rows(revision)), "resolver")
                converged = time.monotonic()
            finally:
                caller.process.send_signal(signal.SIGCONT)
            after = [await caller.until(lambda each: each[0] > converged) for _ in range(REQUESTS)]  # noqa: B023 (same)
            assert {answer for _, _, answer in after} == {str(revision)}
