"""The replica's side of registration: reports its state, and applies assignments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from random import uniform
from typing import TYPE_CHECKING

import grpc.aio

from lab.transport import open_channel, set_within
from models.proto.control.v1 import acts_pb2, replicas_pb2, replicas_pb2_grpc
from models.stub.journal import Journal

if TYPE_CHECKING:
    from models.stub.versions import Versions

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.25
# With jitter, so that a lab's replicas do not reconnect all at once.
RECONNECT_S = (0.05, 0.15)


class Registration:
    """Keeps this replica registered while :meth:`run` runs.

    Args:
        control_plane: ``host:port`` of every control plane, separated by commas.
        versions: reported, and receives assignments.
        journal: acts to report; an empty one by default.

    Attributes:
        drain_reported: set once every connected control plane received a report that this replica is draining.
    """

    def __init__(self, control_plane: str, versions: Versions, journal: Journal | None = None) -> None:
        self.drain_reported = asyncio.Event()
        self._draining = False
        self._journal = journal or Journal()
        self._links = [_Link(each, versions, self) for each in control_plane.split(",")]
        self._reporter: _Link | None = None
        versions.on_change = self._journal.on_act = self._report_soon

    @property
    def connected(self) -> bool:
        """Whether any control plane received a report on its present connection."""
        return any(each.connected for each in self._links)

    @property
    def draining(self) -> bool:
        """Whether this replica is draining."""
        return self._draining

    def start_draining(self) -> None:
        """Reports that this replica is draining, so that it receives no new requests."""
        self._draining = True
        self._report_soon()

    async def run(self) -> None:
        """Registers with all control planes, and reconnects after a loss; runs until cancelled."""
        await asyncio.gather(*(each.run() for each in self._links))

    def acts_for(self, link: _Link) -> list[acts_pb2.Act]:
        """Acts to report on a link. Only one control plane receives them, since all share one audit log."""
        if self._reporter is None or not self._reporter.connected:
            self._reporter = link
        return self._journal.unreported() if self._reporter is link else []

    def reported(self, acts: list[acts_pb2.Act]) -> None:
        """Called when a report with these acts was sent."""
        self._journal.forget(acts)
        if all(each.said_draining for each in self._links if each.connected):
            self.drain_reported.set()

    def _report_soon(self) -> None:
        for each in self._links:
            each.report_soon()


class _Link:
    """The connection to one control plane.

    Attributes:
        connected: whether a report was sent on the present connection.
        said_draining: whether that report said that this replica is draining.
    """

    def __init__(self, control_plane: str, versions: Versions, registration: Registration) -> None:
        self.connected = self.said_draining = False
        self._control_plane = control_plane
        self._versions = versions
        self._registration = registration
        self._changed = asyncio.Event()
        self._complained = False

    async def run(self) -> None:
        """Registers, and reconnects after a loss; runs until cancelled."""
        while True:
            try:
                await self._session()
                reason = "it ended the registration"
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
            self.connected = self.said_draining = False
            self._versions.control_plane_lost(self._control_plane)
            if not self._complained:  # once per outage
                log.warning("control plane %s: %s; trying again until it answers", self._control_plane, reason)
                self._complained = True
            await asyncio.sleep(uniform(*RECONNECT_S))  # noqa: S311 (nothing secret)

    def report_soon(self) -> None:
        """Sends a report soon."""
        # The attribute is read on each call: every stream has its own event.
        self._changed.set()

    async def _session(self) -> None:
        # One event per stream: an ended stream's report generator must not consume the next one's signal.
        self._changed = asyncio.Event()
        # A new channel each time: gRPC's own reconnect backoff grows.
        async with open_channel(self._control_plane, peer="control-plane", keepalive=True) as channel:
            call = replicas_pb2_grpc.ReplicasStub(channel).Register(self._reports(self._changed))
            try:
                async for assignment in call:
                    self._versions.assign(assignment, self._control_plane)
            finally:
                call.cancel()

    async def _reports(self, changed: asyncio.Event) -> AsyncIterator[replicas_pb2.ReplicaReport]:
        while True:
            changed.clear()
            draining = self._registration.draining
            report = self._versions.report(draining=draining, to=self._control_plane)
            acts = self._registration.acts_for(self)
            report.acts.extend(acts)
            yield report
            # gRPC asks for the next report once this one was sent.
            if not self.connected:
                self.connected, self._complained = True, False
                log.info("registered with control plane %s", self._control_plane)
            self.said_draining = draining
            self._registration.reported(acts)
            await set_within(changed, HEARTBEAT_S)
