"""The replica's side of registration: says what it holds, and holds what it is told to."""

from __future__ import annotations

import asyncio
import logging
from random import uniform
from typing import TYPE_CHECKING

import grpc.aio

from lab.transport import open_channel
from models.proto.control.v1 import replicas_pb2_grpc
from models.stub.journal import Journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import NoReturn

    from models.proto.control.v1 import replicas_pb2
    from models.stub.versions import Versions

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.25
# Spread a little, so that the replicas of a lab do not all knock at the same moment.
RECONNECT_S = (0.05, 0.15)


class Registration:
    """Keeps this replica registered for as long as :meth:`run` runs.

    Args:
        control_plane: ``host:port``.
        versions: what it reports, and what it gives assignments to.
        journal: what is done to the replica, which it reports as well; an empty one by default.

    Attributes:
        drain_reported: set once the control plane has been sent word that this replica is draining.
    """

    def __init__(self, control_plane: str, versions: Versions, journal: Journal | None = None) -> None:
        self.drain_reported = asyncio.Event()
        self._control_plane = control_plane
        self._versions = versions
        self._draining = False
        self._changed = asyncio.Event()
        self._connected = False
        self._complained = False
        self._journal = journal or Journal()
        versions.on_change = self._journal.on_act = self._report_soon

    @property
    def connected(self) -> bool:
        """Whether the control plane has been sent a report on the present connection."""
        return self._connected

    def start_draining(self) -> None:
        """Tells the control plane to take this replica out."""
        self._draining = True
        self._report_soon()

    async def run(self) -> NoReturn:
        """Registers, and again whenever the control plane was gone; for ever."""
        while True:
            try:
                await self._session()
                reason = "it ended the registration"
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
            self._connected = False
            if not self._complained:  # once per outage
                log.warning("control plane %s: %s; trying again until it answers", self._control_plane, reason)
                self._complained = True
            await asyncio.sleep(uniform(*RECONNECT_S))  # noqa: S311 (nothing secret)

    def _report_soon(self) -> None:
        # Looked up anew each time: every stream has an event of its own.
        self._changed.set()

    async def _session(self) -> None:
        # An event of its own for each stream: the reports of one that has ended must not take the next one's cue.
        self._changed = asyncio.Event()
        # A new channel each time: gRPC's own would wait longer and longer between its attempts.
        async with open_channel(self._control_plane, peer="control-plane", keepalive=True) as channel:
            call = replicas_pb2_grpc.ReplicasStub(channel).Register(self._reports(self._changed))
            try:
                async for assignment in call:
                    self._versions.assign(assignment)
            finally:
                call.cancel()

    async def _reports(self, changed: asyncio.Event) -> AsyncIterator[replicas_pb2.ReplicaReport]:
        while True:
            changed.clear()
            draining = self._draining
            report, acts = self._versions.report(draining=draining), self._journal.untold()
            report.acts.extend(acts)
            yield report
            self._journal.forget(acts)
            # gRPC asks for the next report once this one has gone out.
            if not self._connected:
                self._connected, self._complained = True, False
                log.info("registered with control plane %s", self._control_plane)
            if draining:
                self.drain_reported.set()
            try:
                await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
            except TimeoutError:
                continue
