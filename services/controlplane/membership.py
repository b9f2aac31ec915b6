"""Which replicas there are, what each is to hold, and what each has loaded.

A replica is registered for as long as its stream lives: a process that dies is gone with its connection, within
milliseconds. One that is frozen or cut off is gone once no heartbeat has come for :data:`HEARTBEAT_TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from lab.errors import PublishError
from lab.transport import is_operator, peer_identity
from models.proto.control.v1 import replicas_pb2, replicas_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping

    from services.controlplane.audit import AuditLog

log = logging.getLogger(__name__)

HEARTBEAT_TIMEOUT_S = 0.9
# How long a restarted control plane believes that the replicas it knew are still there.
RESTART_GRACE_S = 3.0
_REAP_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class Version:
    """A model version to hold."""

    routing_key: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Member:
    """A registered replica, by its latest report.

    Attributes:
        address: ``host:port``.
        loaded: routing keys that it can answer.
        failures: routing key → why it could not be loaded.
        revision: of the assignment that this report answers.
    """

    cluster: str
    replica: str
    address: str
    loaded: frozenset[str] = frozenset()
    failures: tuple[tuple[str, str], ...] = ()
    revision: int = 0
    draining: bool = False


@dataclass(slots=True, eq=False)
class _Registration:
    """A member, until when to believe in it without a further word, and its stream's signal that it is to be told.

    The signal is None for a member that is only remembered, from before a restart or a freeze of this process.
    """

    member: Member
    deadline: float
    assignment_changed: asyncio.Event | None = None


class Membership:
    """The registered replicas.

    Args:
        on_change: called with the cluster whose endpoints may have changed.
    """

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._registrations: dict[tuple[str, str], _Registration] = {}
        self._revision = 0
        self._assignments: Mapping[str, tuple[Version, ...]] = {}
        self._assigned_keys: Mapping[str, frozenset[str]] = {}
        self._progress = asyncio.Condition()
        self._last_look = 0.0
        self._forgiving_until = 0.0

    @property
    def members(self) -> list[Member]:
        """All that are registered, by name."""
        return [self._registrations[name].member for name in sorted(self._registrations)]

    def addresses(self, cluster: str, routing_key: str) -> list[str]:
        """Where the replicas of a cluster that can answer a routing key are."""
        return [
            each.member.address
            for (its_cluster, _), each in self._registrations.items()
            if its_cluster == cluster and routing_key in each.member.loaded and not each.member.draining
        ]

    def remember(self, members: Iterable[Member]) -> None:
        """Believes, for a while, that these are still there: the control plane has just come back."""
        deadline = asyncio.get_running_loop().time() + RESTART_GRACE_S
        for member in members:
            self._registrations.setdefault((member.cluster, member.replica), _Registration(member, deadline))

    def assign(self, revision: int, assignments: Mapping[str, Collection[Version]]) -> None:
        """Tells every replica what it is to hold from now on; clusters that are not named hold nothing."""
        self._revision = revision
        self._assignments = {cluster: tuple(versions) for cluster, versions in assignments.items()}
        self._assigned_keys = {
            cluster: frozenset(each.routing_key for each in versions) for cluster, versions in self._assignments.items()
        }
        for registration in self._registrations.values():
            if registration.assignment_changed is not None:
                registration.assignment_changed.set()

    def holds(self, needed: Mapping[str, frozenset[str]]) -> bool:
        """Whether every replica of these clusters has loaded these routing keys and is to keep them."""
        return all(
            keys <= self._assigned_keys.get(cluster, frozenset())
            and (members := self._serving(cluster))
            and all(keys <= member.loaded for member in members)
            for cluster, keys in needed.items()
        )

    def serving(self, clusters: Collection[str]) -> int:
        """Number of replicas that these clusters have."""
        return sum(len(self._serving(cluster)) for cluster in clusters)

    def missing(self, needed: Mapping[str, Collection[str]], revision: int) -> list[str]:
        """Which replicas have not loaded what their cluster needs, or have not answered that revision's assignment."""
        result = []
        for cluster, keys in needed.items():
            members = self._serving(cluster)
            if not members:
                result.append(f"cluster {cluster} has no replica")
            for member in members:
                absent = sorted(set(keys) - member.loaded)
                if absent or member.revision < revision:
                    result.append(f"replica {member.replica} of {cluster} lacks {', '.join(absent) or 'an answer'}")
        return result

    async def wait_loaded(self, needed: Mapping[str, Collection[str]], *, revision: int, timeout_s: float) -> None:
        """Returns once every replica of the clusters named has loaded the routing keys that its cluster needs.

        Raises:
            PublishError: a cluster has no replica, a replica cannot load a version or does not answer in time.
        """

        def settled() -> bool:
            return self._load_failure(needed, revision) is not None or not self.missing(needed, revision)

        try:
            async with self._progress:
                await asyncio.wait_for(self._progress.wait_for(settled), timeout_s)
        except TimeoutError:
            raise PublishError(
                f"not loaded within {timeout_s:g} s: {'; '.join(self.missing(needed, revision))}"
            ) from None
        failure = self._load_failure(needed, revision)
        if failure is not None:
            raise PublishError(failure)

    async def reap(self) -> None:
        """Removes replicas whose heartbeats are missing; runs for ever."""
        loop = asyncio.get_running_loop()
        self._last_look = loop.time()
        while True:
            await asyncio.sleep(_REAP_INTERVAL_S)
            now = loop.time()
            frozen = now - self._last_look - _REAP_INTERVAL_S
            self._last_look = now
            if frozen > _REAP_INTERVAL_S:
                # It was this process that did not run: heartbeats are waiting to be read, and nobody is to blame.
                self._forgiving_until = now + HEARTBEAT_TIMEOUT_S
                for registration in self._registrations.values():
                    registration.deadline += frozen
                continue
            for name, registration in list(self._registrations.items()):
                if registration.deadline < now:
                    log.warning("replica %s of %s: no heartbeat", name[1], name[0])
                    await self._remove(name, registration)

    async def serve(self, reports: AsyncIterator[replicas_pb2.ReplicaReport]) -> AsyncIterator[replicas_pb2.Assignment]:
        """One replica's stream."""
        first = await anext(aiter(reports), None)
        if first is None:
            return
        name = (first.cluster, first.replica)
        changed = asyncio.Event()
        changed.set()
        registration = _Registration(_member(first), 0.0, changed)
        self._registrations[name] = registration
        log.info("replica %s of %s registered at %s", first.replica, first.cluster, first.address)
        await self._take(name, registration, _member(first), is_new=True)
        reader = asyncio.create_task(self._read(reports, name, registration))
        try:
            while not reader.done():
                await changed.wait()
                changed.clear()
                if not reader.done() and self._revision:
                    yield self._assignment(first.cluster)
        finally:
            reader.cancel()
            if self._was_frozen():
                # Whoever gave up on this process while it was frozen will be back in a moment.
                registration.assignment_changed = None
                registration.deadline = asyncio.get_running_loop().time() + RESTART_GRACE_S
            else:
                await self._remove(name, registration)

    def _was_frozen(self) -> bool:
        now = asyncio.get_running_loop().time()
        return now < self._forgiving_until or now - self._last_look > 3 * _REAP_INTERVAL_S

    async def _read(
        self, reports: AsyncIterator[replicas_pb2.ReplicaReport], name: tuple[str, str], registration: _Registration
    ) -> None:
        try:
            async for report in reports:
                if self._registrations.get(name) is not registration:
                    break  # declared dead, or replaced by its own successor: it has to register anew
                await self._take(name, registration, _member(report))
        finally:
            if registration.assignment_changed is not None:
                registration.assignment_changed.set()

    async def _take(
        self, name: tuple[str, str], registration: _Registration, member: Member, *, is_new: bool = False
    ) -> None:
        registration.deadline = asyncio.get_running_loop().time() + HEARTBEAT_TIMEOUT_S
        if member != registration.member or is_new:
            registration.member = replace(member, cluster=name[0], replica=name[1])
            self._on_change(name[0])
            async with self._progress:
                self._progress.notify_all()

    async def _remove(self, name: tuple[str, str], registration: _Registration) -> None:
        if self._registrations.get(name) is not registration:
            return  # its successor has registered already
        del self._registrations[name]
        log.info("replica %s of %s has gone", name[1], name[0])
        if registration.assignment_changed is not None:
            registration.assignment_changed.set()
        self._on_change(name[0])
        async with self._progress:
            self._progress.notify_all()

    def _assignment(self, cluster: str) -> replicas_pb2.Assignment:
        return replicas_pb2.Assignment(
            revision=self._revision,
            versions=[
                replicas_pb2.AssignedVersion(routing_key=each.routing_key, model=each.model, version=each.version)
                for each in self._assignments.get(cluster, ())
            ],
        )

    def _serving(self, cluster: str) -> list[Member]:
        return [each for each in self.members if each.cluster == cluster and not each.draining]

    def _load_failure(self, needed: Mapping[str, Collection[str]], revision: int) -> str | None:
        for cluster, keys in needed.items():
            for member in self._serving(cluster):
                for key, reason in member.failures if member.revision >= revision else ():
                    if key in keys:
                        return f"replica {member.replica} of {cluster} cannot load {key}: {reason}"
        return None


class ReplicasServicer(replicas_pb2_grpc.ReplicasServicer):
    """The registration API."""

    def __init__(self, membership: Membership, audit_log: AuditLog) -> None:
        self._membership, self._audit_log = membership, audit_log

    async def Register(  # noqa: N802 (the protocol's name)
        self,
        request_iterator: AsyncIterator[replicas_pb2.ReplicaReport],
        context: grpc.aio.ServicerContext[replicas_pb2.ReplicaReport, replicas_pb2.Assignment],
    ) -> AsyncIterator[replicas_pb2.Assignment]:
        """See :meth:`Membership.serve`; a replica may speak for the cluster alone that it has proved to be of."""
        identity, impostor = peer_identity(context), ""

        async def own_reports() -> AsyncIterator[replicas_pb2.ReplicaReport]:
            nonlocal impostor
            async for report in request_iterator:
                if identity is not None and not is_operator(identity) and report.cluster != identity.name:
                    impostor = f"{identity.uri} may not be a replica of {report.cluster!r}"
                    return
                if report.acts:
                    self._audit_log.take_over(report.replica, report.acts)
                yield report

        async for assignment in self._membership.serve(own_reports()):
            yield assignment
        if impostor:
            log.warning("turned away: %s", impostor)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, impostor)


def _member(report: replicas_pb2.ReplicaReport) -> Member:
    return Member(
        cluster=report.cluster,
        replica=report.replica,
        address=report.address,
        loaded=frozenset(report.loaded),
        failures=tuple((each.routing_key, each.reason) for each in report.failures),
        revision=report.revision,
        draining=report.draining,
    )
