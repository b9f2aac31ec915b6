"""A control plane that was frozen: its replicas have given up on it, and register again in a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from services.controlplane.nodes import membership as module
from services.controlplane.nodes.membership import HEARTBEAT_TIMEOUT_S, Member, Membership
from services.controlplane.nodes.registration_log import RegistrationLog
from tests.waiting import eventually

REPLICA = Member("ml-cluster-1", "ml-cluster-1-a", "127.0.0.1:1")


async def _one_report() -> AsyncIterator[Sequence[Member]]:
    yield [REPLICA]
    await asyncio.Event().wait()


async def _serve(membership: Membership) -> None:
    async for _ in membership.serve(_one_report()):
        pass


async def test_a_replica_is_not_taken_for_dead_while_it_registers_again_with_a_control_plane_that_was_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gave_up_s, grace_s = 0.3, 1.2
    monkeypatch.setattr(module, "GAVE_UP_S", gave_up_s)
    monkeypatch.setattr(module, "RESTART_GRACE_S", grace_s)
    membership = Membership(lambda _: None, RegistrationLog(time.time_ns), {})
    tasks = [asyncio.create_task(work) for work in (_serve(membership), membership.reap())]
    await eventually("it is registered", lambda: membership.members, until=[REPLICA].__eq__)
    time.sleep(2 * gave_up_s)  # noqa: ASYNC251 (freezes the whole event loop, as SIGSTOP does)
    thawed = time.monotonic()
    await eventually("it is gone", lambda: membership.members, until=[].__eq__)
    kept_s = time.monotonic() - thawed
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert HEARTBEAT_TIMEOUT_S < grace_s <= kept_s
