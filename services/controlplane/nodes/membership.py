"""Which replicas there are, what each is to hold, and what each has loaded.

A replica is registered for as long as its stream lives: a process that dies is gone with its connection, within
milliseconds. One that is frozen or cut off is gone once no heartbeat has come for :data:`HEARTBEAT_TIMEOUT_S`. One
stream may speak for many replicas. What changes for one cluster costs nothing for the others, of which there may be ten
thousand.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lab.errors import PublishError
from services.controlplane.nodes.assignments import Version
from services.controlplane.registry.table_diff import changed_entries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence

    from services.controlplane.nodes.assignments import Assignment

log = logging.getLogger(__name__)

HEARTBEAT_TIMEOUT_S = 0.9
# Of a host, which speaks for so many that to give it up for a moment's silence would cost more than it saves.
HOST_TIMEOUT_S = 5.0
# How long a restarted control plane believes that the replicas it knew are still there.
RESTART_GRACE_S = 3.0
# Longer for each: thousands take a while to be read.
_GRACE_A_REPLICA_S = 0.001
_REAP_INTERVAL_S = 0.1


AssignmentUpdate = tuple[int, dict[str, tuple[Version, ...]]]
"""A revision, and what each of some clusters is to hold."""


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


Name = tuple[str, str]
"""Cluster and replica."""


@dataclass(slots=True, eq=False)
class _Stream:
    """Where members' reports come from.

    Attributes:
        patience_s: how long to believe in its members after each of its reports, seconds.
        deadline: until when to believe in its members without a further word; of the event loop's clock.
        is_open: whether anybody listens; not so for members that are only remembered, from before a restart or a freeze
            of this process.
        names: its members.
        untold: clusters whose assignment has yet to be told on it.
        wake: set when there is something to tell.
    """

    patience_s: float
    deadline: float
    is_open: bool = True
    names: set[Name] = field(default_factory=set)
    untold: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class _Registration:
    """A member, and the stream that it came by."""

    member: Member
    stream: _Stream


class _Common(NamedTuple):
    """What all serving replicas of a cluster have in common.

    Attributes:
        keys: what each of them holds.
        revision: of the assignment that each of them has answered, or a later one.
        replicas: how many there are.
    """

    keys: frozenset[str]
    revision: int
    replicas: int


class Membership:
    """The registered replicas.

    Args:
        on_change: called with the clusters whose endpoints may have changed.
    """

    def __init__(self, on_change: Callable[[Collection[str]], None]) -> None:
        self._on_change = on_change
        self._clusters: dict[str, dict[str, _Registration]] = defaultdict(dict)
        self._streams: set[_Stream] = set()
        self._revision = 0
        self._assignments: Mapping[str, Assignment] = {}
        self._assigned_in: dict[str, int] = {}  # cluster → revision in which it was given what it is to hold now
        self._common: dict[str, _Common] = {}  # by cluster, as far as looked up
        self._ready: dict[str, Assignment] = {}  # cluster → what its replicas were last found to be ready for, and are
        self._progress = asyncio.Condition()
        self._last_look = 0.0
        self._forgiving_until = 0.0

    @property
    def members(self) -> list[Member]:
        """All that are registered, by name."""
        return [member for cluster in sorted(self._clusters) for member in self.members_of(cluster)]

    def members_of(self, cluster: str) -> list[Member]:
        """Those of one cluster, by name."""
        replicas = self._clusters.get(cluster, {})
        return [replicas[name].member for name in sorted(replicas)]

    def addresses(self, cluster: str, routing_key: str) -> list[str]:
        """Where the replicas of a cluster that can answer a routing key are."""
        return [each.address for each in self._serving(cluster) if routing_key in each.loaded]

    def remember(self, members: Iterable[Member]) -> None:
        """Believes, for a while, that these are still there: the control plane has just come back."""
        members = list(members)
        stream = self._new_stream(RESTART_GRACE_S + len(members) * _GRACE_A_REPLICA_S, is_open=False)
        for member in members:
            if member.replica not in self._clusters[member.cluster]:
                self._put(stream, member)

    def assign(self, revision: int, assignments: Mapping[str, Assignment]) -> None:
        """Tells replicas what they are to hold from now on; clusters that are not named hold nothing."""
        before, self._assignments, self._revision = self._assignments, assignments, revision
        changed = list(changed_entries(assignments, before))
        changed += before.keys() - assignments.keys()
        for cluster in changed:
            self._assigned_in[cluster] = revision
            self._ready.pop(cluster, None)
            for registration in self._clusters.get(cluster, {}).values():
                registration.stream.untold.add(cluster)
                registration.stream.wake.set()

    def holds(self, needed: Mapping[str, Assignment]) -> bool:
        """Whether every replica of these clusters has loaded what is needed of it, and is to keep that."""
        assigned, ready = self._assignments.get, self._ready.get
        # Most are what was assigned and found ready before.
        others = [each for each, need in needed.items() if assigned(each) is not need or ready(each) is not need]
        return all(
            (its := assigned(each)) is not None
            and needed[each].keys <= its.keys
            and needed[each].keys <= self._look(each).keys
            for each in others
        )

    def serving(self, clusters: Collection[str]) -> int:
        """Number of replicas that these clusters have."""
        return sum(self._look(cluster).replicas for cluster in clusters)

    def missing(self, needed: Mapping[str, Assignment]) -> list[str]:
        """Which replicas have not loaded what their cluster needs, or have not answered its latest assignment."""
        result = []
        for cluster, need in needed.items():
            if self._is_ready(cluster, need):
                continue
            members = self._serving(cluster)
            if not members:
                result.append(f"cluster {cluster} has no replica")
            for member in members:
                absent = sorted(need.keys - member.loaded)
                if absent or member.revision < self._assigned_in.get(cluster, 0):
                    result.append(f"replica {member.replica} of {cluster} lacks {', '.join(absent) or 'an answer'}")
        return result

    async def wait_loaded(self, needed: Mapping[str, Assignment], *, timeout_s: float) -> None:
        """Returns once every replica of the clusters named has loaded what its cluster needs.

        Raises:
            PublishError: a cluster has no replica, a replica cannot load a version or does not answer in time.
        """
        waiting = dict(needed)

        def settled() -> bool:
            nonlocal waiting
            # Only those that were not ready at the last look: there may be thousands that were.
            waiting = {cluster: need for cluster, need in waiting.items() if not self._is_ready(cluster, need)}
            return not waiting or self._load_failure(waiting) is not None

        try:
            async with asyncio.timeout(timeout_s), self._progress:
                await self._progress.wait_for(settled)
        except TimeoutError:
            raise PublishError(f"not loaded within {timeout_s:g} s: {'; '.join(self.missing(needed))}") from None
        failure = self._load_failure(waiting)
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
                for stream in self._streams:
                    stream.deadline += frozen
                continue
            for stream in [each for each in self._streams if each.deadline < now]:
                for cluster, replica in sorted(stream.names):
                    log.warning("replica %s of %s: no heartbeat", replica, cluster)
                await self._close(stream)

    async def serve(
        self, reports: AsyncIterator[Sequence[Member]], *, patience_s: float = HEARTBEAT_TIMEOUT_S
    ) -> AsyncIterator[AssignmentUpdate]:
        """One stream: takes reports of members whose state has changed, none for a heartbeat; tells assignments.

        Args:
            reports: what comes by it.
            patience_s: its members are gone after so many seconds without a report.
        """
        first = await anext(aiter(reports), None)
        if first is None:
            return
        stream = self._new_stream(patience_s)
        reader = asyncio.create_task(self._read(first, reports, stream))
        try:
            while not reader.done():
                await stream.wake.wait()
                stream.wake.clear()
                if not reader.done() and self._revision and stream.untold:
                    clusters, stream.untold = sorted(stream.untold), set()
                    yield (
                        self._revision,
                        {
                            each: self._assignments[each].versions if each in self._assignments else ()
                            for each in clusters
                        },
                    )
        finally:
            reader.cancel()
            stream.is_open = False
            if self._was_frozen():
                # Whoever gave up on this process while it was frozen will be back in a moment.
                stream.deadline = asyncio.get_running_loop().time() + RESTART_GRACE_S
            else:
                await self._close(stream)

    def _was_frozen(self) -> bool:
        now = asyncio.get_running_loop().time()
        return now < self._forgiving_until or now - self._last_look > 3 * _REAP_INTERVAL_S

    async def _read(self, first: Sequence[Member], reports: AsyncIterator[Sequence[Member]], stream: _Stream) -> None:
        try:
            await self._take(stream, first)
            async for members in reports:
                if stream not in self._streams:
                    break  # declared dead, or all its members have registered elsewhere: they have to register anew
                await self._take(stream, members)
        finally:
            stream.wake.set()

    async def _take(self, stream: _Stream, members: Iterable[Member]) -> None:
        stream.deadline = asyncio.get_running_loop().time() + stream.patience_s
        changed = set()
        for member in members:
            known = self._clusters[member.cluster].get(member.replica)
            if known is None or known.stream is not stream:
                log.info("replica %s of %s registered at %s", member.replica, member.cluster, member.address)
                stream.untold.add(member.cluster)
                stream.wake.set()
            elif known.member == member:
                continue
            self._put(stream, member)
            changed.add(member.cluster)
        await self._tell(changed)

    def _new_stream(self, patience_s: float, *, is_open: bool = True) -> _Stream:
        stream = _Stream(patience_s, asyncio.get_running_loop().time() + patience_s, is_open)
        self._streams.add(stream)
        return stream

    def _put(self, stream: _Stream, member: Member) -> None:
        replicas, name = self._clusters[member.cluster], (member.cluster, member.replica)
        before = replicas.get(member.replica)
        if before is not None and before.stream is not stream:
            # Its own successor, which came by another stream.
            before.stream.names.discard(name)
            if not before.stream.names:
                self._streams.discard(before.stream)
                before.stream.wake.set()
        stream.names.add(name)
        replicas[member.replica] = _Registration(member, stream)

    async def _close(self, stream: _Stream) -> None:
        """Its members have gone."""
        if stream not in self._streams:
            return
        self._streams.discard(stream)
        for cluster, replica in sorted(stream.names):
            del self._clusters[cluster][replica]
            log.info("replica %s of %s has gone", replica, cluster)
        stream.wake.set()
        await self._tell({cluster for cluster, _ in stream.names})

    async def _tell(self, clusters: set[str]) -> None:
        if not clusters:
            return
        for cluster in clusters:
            self._common.pop(cluster, None)
            self._ready.pop(cluster, None)
        self._on_change(clusters)
        async with self._progress:
            self._progress.notify_all()

    def _serving(self, cluster: str) -> list[Member]:
        return [each for each in self.members_of(cluster) if not each.draining]

    def _is_ready(self, cluster: str, need: Assignment) -> bool:
        if self._ready.get(cluster) is need:
            return True
        found = self._look(cluster)
        if not found.replicas or found.revision < self._assigned_in.get(cluster, 0) or not need.keys <= found.keys:
            return False
        self._ready[cluster] = need
        return True

    def _look(self, cluster: str) -> _Common:
        found = self._common.get(cluster)
        if found is None:
            members = self._serving(cluster)
            found = self._common[cluster] = _Common(
                frozenset.intersection(*(each.loaded for each in members)) if members else frozenset(),
                min((each.revision for each in members), default=0),
                len(members),
            )
        return found

    def _load_failure(self, needed: Mapping[str, Assignment]) -> str | None:
        for cluster, need in needed.items():
            for member in self._serving(cluster):
                for key, reason in member.failures if member.revision >= self._assigned_in.get(cluster, 0) else ():
                    if key in need.keys:
                        return f"replica {member.replica} of {cluster} cannot load {key}: {reason}"
        return None
