"""The registered replicas, what each must hold, and what each has loaded.

A replica is registered while its stream lives: when its process dies, the connection closes within milliseconds. A
frozen or partitioned replica is removed after :data:`HEARTBEAT_TIMEOUT_S` without a heartbeat. One stream may report
many replicas. The cost of a change to one cluster is independent of the number of clusters, which may be ten thousand.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lab.errors import PublishError
from services.controlplane.nodes.assignments import NOTHING, Assignment, Suspension, Version

if TYPE_CHECKING:
    from lab.routing.uses import Grant
    from services.controlplane.nodes.registration_log import RegistrationLog

log = logging.getLogger(__name__)

HEARTBEAT_TIMEOUT_S = 0.9
# For a host: removing all its replicas for a short silence would cost more than it saves.
HOST_TIMEOUT_S = 5.0
# How long a restarted control plane keeps the replicas of its snapshot before they register again.
RESTART_GRACE_S = 3.0
# Replicas give up on a control plane that is silent for two seconds, and register again: as after a restart.
GAVE_UP_S = 1.0
# Longer per replica: reading thousands of registrations takes a while.
_GRACE_A_REPLICA_S = 0.001
_REAP_INTERVAL_S = 0.1


ASKED_NOTHING = 2**63
"""As the suspension of replicas that only a host speaks for: they take no requests."""

AssignmentUpdate = tuple[int, dict[str, tuple[Version, ...]]]
"""A revision, and the versions that each of some clusters must hold."""


@dataclass(frozen=True, slots=True)
class Member:
    """A registered replica, by its latest report.

    Attributes:
        address: ``host:port``.
        loaded: routing keys that it can answer.
        failures: routing key → why it could not be loaded.
        revision: of the assignment that this report answers.
        suspension: number of the latest suspension that it has.
    """

    cluster: str
    replica: str
    address: str
    loaded: frozenset[str] = frozenset()
    failures: tuple[tuple[str, str], ...] = ()
    revision: int = 0
    draining: bool = False
    suspension: int = 0


Name = tuple[str, str]
"""Cluster and replica."""


@dataclass(slots=True, eq=False)
class _Stream:
    """The stream over which members report.

    Attributes:
        timeout_s: how long its members stay registered after a report, seconds.
        deadline: when its members are removed without another report, on the event loop's clock.
        names: its members.
        unsent: clusters whose assignment has not been sent on it.
        wake: set when there is something to send.
    """

    timeout_s: float
    deadline: float
    names: set[Name] = field(default_factory=set)
    unsent: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class _Registration:
    """A member, and the stream that reports it."""

    member: Member
    stream: _Stream


class _ClusterState(NamedTuple):
    """What all serving replicas of a cluster have in common.

    Attributes:
        keys: routing keys that every one of them has loaded.
        revision: lowest revision of an assignment that any of them answered last.
        replicas: their number.
    """

    keys: frozenset[str]
    revision: int
    replicas: int


class Membership:
    """The registered replicas.

    Args:
        on_change: called with the clusters whose endpoints may have changed.
        registrations: gets every registration.
        grants: routing key → who may use it; kept current by its owner.

    Attributes:
        registrations, grants: the same.
        assignments: cluster → what its replicas must hold, as last assigned.
        suspension: whose requests every replica must refuse.
    """

    def __init__(
        self,
        on_change: Callable[[Collection[str]], None],
        registrations: RegistrationLog,
        grants: Mapping[str, Grant],
    ) -> None:
        self._on_change = on_change
        self.registrations, self.grants = registrations, grants
        self.suspension = Suspension()
        self._clusters: dict[str, dict[str, _Registration]] = defaultdict(dict)
        self._streams: set[_Stream] = set()
        self._revision = 0
        self.assignments: dict[str, Assignment] = {}
        self._assigned_in: dict[str, int] = {}  # cluster → revision of its current assignment
        self._states: dict[str, _ClusterState] = {}  # cluster → state, computed on demand
        self._unready: set[str] = set()  # clusters that do not hold what they are assigned, or did not answer yet
        self._progress = asyncio.Condition()
        self._last_reaped_at = 0.0
        self._grace_until = 0.0

    @property
    def members(self) -> list[Member]:
        """All registered replicas, by name."""
        return [member for cluster in sorted(self._clusters) for member in self.members_of(cluster)]

    def members_of(self, cluster: str) -> list[Member]:
        """The replicas of one cluster, by name."""
        replicas = self._clusters.get(cluster, {})
        return [replicas[name].member for name in sorted(replicas)]

    def addresses(self, cluster: str, routing_key: str) -> list[str]:
        """Addresses of the replicas of a cluster that can answer a routing key."""
        return [each.address for each in self._serving(cluster) if routing_key in each.loaded]

    def remember(self, members: Iterable[Member]) -> None:
        """Keeps these replicas registered for a grace period after a restart of the control plane."""
        members = list(members)
        stream = self._new_stream(RESTART_GRACE_S + len(members) * _GRACE_A_REPLICA_S)
        for member in members:
            if member.replica not in self._clusters[member.cluster]:
                self._put(stream, member)

    def assign(self, revision: int, assignments: Mapping[str, Assignment], regranted: Collection[str] = ()) -> bool:
        """Sends replicas what they must hold from now on; returns whether there was anything to send.

        Args:
            revision: of the route table.
            assignments: by cluster, of those that may differ.
            regranted: clusters among these that hold a key with another grant.
        """
        self._revision = revision
        any_sent = False
        for cluster, assignment in assignments.items():
            before = self.assignments.get(cluster, NOTHING)
            if before.keys == assignment.keys and cluster not in regranted:
                continue
            any_sent = True
            if assignment.keys:
                self.assignments[cluster] = assignment
            else:
                self.assignments.pop(cluster, None)
            self._assigned_in[cluster] = revision
            self._check(cluster)
            for registration in self._clusters.get(cluster, {}).values():
                registration.stream.unsent.add(cluster)
                registration.stream.wake.set()
        return any_sent

    def suspend(self, callers: Collection[str], gateways: Collection[str]) -> None:
        """Has every replica refuse what these callers send without a gateway, and what these gateways send."""
        self.suspension = Suspension(self.suspension.number + 1, frozenset(callers), frozenset(gateways))
        for stream in self._streams:
            stream.unsent |= {cluster for cluster, _ in stream.names}
            stream.wake.set()

    async def wait_suspended(self, *, timeout_s: float) -> None:
        """Returns once every registered replica has the present suspension.

        Raises:
            PublishError: one has not got it in time; names it.
        """

        def missing() -> list[str]:
            return [each.replica for each in self.members if each.suspension < self.suspension.number]

        try:
            async with asyncio.timeout(timeout_s), self._progress:
                await self._progress.wait_for(lambda: not missing())
        except TimeoutError:
            raise PublishError(f"their requests are not refused within {timeout_s:g} s by {missing()}") from None

    def unready(self, needed_in: Callable[[str], frozenset[str]]) -> dict[str, frozenset[str]]:
        """Cluster → keys that it needs, for clusters that may not hold them, or did not answer yet.

        Args:
            needed_in: cluster → keys that it needs.
        """
        return {cluster: keys for cluster in self._unready if (keys := needed_in(cluster))}

    def holds(self, needed: Mapping[str, frozenset[str]]) -> bool:
        """Whether every replica of these clusters has loaded the keys that its cluster needs."""
        return all(keys <= self._state(cluster).keys for cluster, keys in needed.items())

    def serving(self, clusters: Collection[str]) -> int:
        """Number of replicas that serve in these clusters."""
        return sum(self._state(cluster).replicas for cluster in clusters)

    def missing(self, needed: Mapping[str, frozenset[str]]) -> list[str]:
        """Describes each replica that lacks a version its cluster needs, or has not answered its latest assignment."""
        result = []
        for cluster, keys in needed.items():
            if self._is_ready(cluster, keys):
                continue
            members = self._serving(cluster)
            if not members:
                result.append(f"cluster {cluster} has no replica")
            for member in members:
                absent = sorted(keys - member.loaded)
                if absent or member.revision < self._assigned_in.get(cluster, 0):
                    result.append(f"replica {member.replica} of {cluster} lacks {', '.join(absent) or 'an answer'}")
        return result

    async def wait_loaded(self, needed: Mapping[str, frozenset[str]], *, timeout_s: float) -> None:
        """Returns once every replica of these clusters has loaded the keys that its cluster needs.

        Raises:
            PublishError: a cluster has no replica, a replica cannot load a version, or one does not answer in time.
        """
        waiting = dict(needed)

        def settled() -> bool:
            nonlocal waiting
            # Checks only clusters that were not ready before; thousands may be ready already.
            waiting = {cluster: keys for cluster, keys in waiting.items() if not self._is_ready(cluster, keys)}
            return not waiting or self._load_failure(waiting) is not None

        try:
            async with asyncio.timeout(timeout_s), self._progress:
                await self._progress.wait_for(settled)
        except TimeoutError:
            raise PublishError(f"not loaded within {timeout_s:g} s: {'; '.join(self.missing(needed))}") from None
        failure = self._load_failure(waiting)
        if failure is not None:
            raise PublishError(failure)

    async def wait_unloaded(self, vacated: Mapping[str, frozenset[str]], *, timeout_s: float) -> None:
        """Returns once no replica of these clusters holds these keys.

        Raises:
            PublishError: a replica still holds some at the timeout; names it.
        """

        def holding() -> list[str]:
            return [
                f"replica {each.replica} of {cluster} still holds {', '.join(sorted(keys & each.loaded))}"
                for cluster, keys in vacated.items()
                for each in self.members_of(cluster)
                if keys & each.loaded
            ]

        try:
            async with asyncio.timeout(timeout_s), self._progress:
                await self._progress.wait_for(lambda: not holding())
        except TimeoutError:
            raise PublishError(f"not unloaded within {timeout_s:g} s: {'; '.join(holding())}") from None

    async def reap(self) -> None:
        """Removes replicas whose heartbeats are missing; runs until cancelled."""
        loop = asyncio.get_running_loop()
        self._last_reaped_at = loop.time()
        while True:
            await asyncio.sleep(_REAP_INTERVAL_S)
            now = loop.time()
            frozen = now - self._last_reaped_at - _REAP_INTERVAL_S
            self._last_reaped_at = now
            if frozen > _REAP_INTERVAL_S:
                # This process was suspended. Heartbeats are waiting to be read, and no replica is late.
                gave_up = frozen > GAVE_UP_S
                self._grace_until = now + (RESTART_GRACE_S if gave_up else HEARTBEAT_TIMEOUT_S)
                for stream in self._streams:
                    stream.deadline = max(stream.deadline + frozen, now + RESTART_GRACE_S if gave_up else 0.0)
                continue
            for stream in [each for each in self._streams if each.deadline < now]:
                for cluster, replica in sorted(stream.names):
                    log.warning("replica %s of %s: no heartbeat", replica, cluster)
                await self._close(stream)

    async def serve(
        self, reports: AsyncIterator[Sequence[Member]], *, timeout_s: float = HEARTBEAT_TIMEOUT_S
    ) -> AsyncIterator[AssignmentUpdate]:
        """Serves one stream: takes reports of changed members (none is a heartbeat), and yields assignments.

        Args:
            reports: the reports on it.
            timeout_s: its members are removed after this many seconds without a report.
        """
        first = await anext(aiter(reports), None)
        if first is None:
            return
        stream = self._new_stream(timeout_s)
        reader = asyncio.create_task(self._read(first, reports, stream))
        try:
            while not reader.done():
                await stream.wake.wait()
                stream.wake.clear()
                if not reader.done() and self._revision and stream.unsent:
                    clusters, stream.unsent = sorted(stream.unsent), set()
                    held = {each: self.assignments.get(each, NOTHING).versions for each in clusters}
                    yield self._revision, held
        finally:
            reader.cancel()
            if self._was_frozen():
                # Replicas that gave up on this suspended process reconnect in a moment.
                stream.deadline = asyncio.get_running_loop().time() + RESTART_GRACE_S
            else:
                await self._close(stream)

    def _was_frozen(self) -> bool:
        now = asyncio.get_running_loop().time()
        return now < self._grace_until or now - self._last_reaped_at > 3 * _REAP_INTERVAL_S

    async def _read(self, first: Sequence[Member], reports: AsyncIterator[Sequence[Member]], stream: _Stream) -> None:
        try:
            await self._take(stream, first)
            async for members in reports:
                if stream not in self._streams:
                    break  # removed, or all its members registered elsewhere: they must register again
                await self._take(stream, members)
        finally:
            stream.wake.set()

    async def _take(self, stream: _Stream, members: Iterable[Member]) -> None:
        # Reports that waited while this process was frozen do not shorten the time to register again.
        stream.deadline = max(stream.deadline, asyncio.get_running_loop().time() + stream.timeout_s)
        changed = set()
        for member in members:
            known = self._clusters[member.cluster].get(member.replica)
            if known is None or known.stream is not stream:
                log.info("replica %s of %s registered at %s", member.replica, member.cluster, member.address)
                stream.unsent.add(member.cluster)
                stream.wake.set()
            elif known.member == member:
                continue
            self._put(stream, member)
            changed.add(member.cluster)
        await self._notify(changed)

    def _new_stream(self, timeout_s: float) -> _Stream:
        stream = _Stream(timeout_s, asyncio.get_running_loop().time() + timeout_s)
        self._streams.add(stream)
        return stream

    def _put(self, stream: _Stream, member: Member) -> None:
        replicas, name = self._clusters[member.cluster], (member.cluster, member.replica)
        before = replicas.get(member.replica)
        if before is not None and before.stream is not stream:
            # The same replica registered again over another stream.
            before.stream.names.discard(name)
            if not before.stream.names:
                self._streams.discard(before.stream)
                before.stream.wake.set()
        stream.names.add(name)
        replicas[member.replica] = _Registration(member, stream)
        self.registrations.begin(*name)

    async def _close(self, stream: _Stream) -> None:
        """Removes the members of a stream."""
        if stream not in self._streams:
            return
        self._streams.discard(stream)
        for cluster, replica in sorted(stream.names):
            del self._clusters[cluster][replica]
            self.registrations.end(cluster, replica)
            log.info("replica %s of %s left", replica, cluster)
        stream.wake.set()
        await self._notify({cluster for cluster, _ in stream.names})

    async def _notify(self, clusters: set[str]) -> None:
        if not clusters:
            return
        for cluster in clusters:
            self._states.pop(cluster, None)
            self._check(cluster)
        self._on_change(clusters)
        async with self._progress:
            self._progress.notify_all()

    def _serving(self, cluster: str) -> list[Member]:
        return [each for each in self.members_of(cluster) if not each.draining]

    def _is_ready(self, cluster: str, keys: frozenset[str]) -> bool:
        found = self._state(cluster)
        return bool(found.replicas) and found.revision >= self._assigned_in.get(cluster, 0) and keys <= found.keys

    def _check(self, cluster: str) -> None:
        """Notes whether a cluster holds what it is assigned."""
        assignment = self.assignments.get(cluster)
        if assignment is None or self._is_ready(cluster, assignment.keys):
            self._unready.discard(cluster)
        else:
            self._unready.add(cluster)

    def _state(self, cluster: str) -> _ClusterState:
        found = self._states.get(cluster)
        if found is None:
            members = self._serving(cluster)
            found = self._states[cluster] = _ClusterState(
                frozenset.intersection(*(each.loaded for each in members)) if members else frozenset(),
                min((each.revision for each in members), default=0),
                len(members),
            )
        return found

    def _load_failure(self, needed: Mapping[str, frozenset[str]]) -> str | None:
        for cluster, keys in needed.items():
            for member in self._serving(cluster):
                for key, reason in member.failures if member.revision >= self._assigned_in.get(cluster, 0) else ():
                    if key in keys:
                        return f"replica {member.replica} of {cluster} cannot load {key}: {reason}"
        return None
