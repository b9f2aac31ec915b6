"""Processes that are stopped while a revision converges, and go on afterwards."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lab import CHECKOUT
from tests.parts import ControlPlane, Model, resolver_up, update, use_case

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

WITHIN_S = 20.0
MOMENTS = 8
"""How often a caller is stopped: what it finds first when it goes on is a matter of chance."""


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[Process]:
    """A process of a Python module, with pipes; ended with the block."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, cwd=CHECKOUT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        started.kill()
        await started.wait()


async def ask(caller: Process, what: str = "", times: int = 1) -> None:
    """Makes a caller begin requests as soon as it runs, or say that it holds leases."""
    assert caller.stdin is not None
    caller.stdin.write(f"{what}\n".encode() * times)
    await caller.stdin.drain()


async def answers(caller: Process, requests: int = 1) -> set[str]:
    """The revisions by which the next requests were answered."""
    assert caller.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        return {(await caller.stdout.readline()).decode().strip() for _ in range(requests)}


def rows(revision: int) -> dict[str, dict[str, object]]:
    return {"HomepageRows": use_case(f"rows@v{revision % 2 + 1}")}


async def test_a_caller_that_was_stopped_during_a_publish_begins_no_request_by_the_rules_before(
    control_plane: ControlPlane, model: Model
) -> None:
    async with (
        resolver_up(control_plane.address) as resolver,
        process("tests.client.one_caller", resolver, model.address) as caller,
    ):
        await control_plane.put_in_force(update(1, use_cases=rows(1)), "resolver")
        await ask(caller)
        assert await answers(caller) == {"1"}
        for revision in range(2, 2 + MOMENTS):
            await ask(caller, "hold")
            assert await answers(caller) == {"held"}
            caller.send_signal(signal.SIGSTOP)
            try:
                await control_plane.put_in_force(update(revision, use_cases=rows(revision)), "resolver")
                await ask(caller, times=20)
            finally:
                caller.send_signal(signal.SIGCONT)
            assert await answers(caller, 20) == {str(revision)}
