"""Publishing a revision, in phases: make before break.

::

    stored     the route table is valid, and its revision durable
    loaded     every replica that is to serve a new model version has loaded it
    endpoints  every sidecar and gateway knows where it is, and new keys have settled there; moved keys go to their new
               cluster from here on
    converged  every resolver and gateway decides by the new rules, and no caller holds a decision by the old
    retired    what is no longer referenced is unloaded, once nothing can be on its way to it

A phase that fails or times out ends the publish: the revision before is put back and stays in force. Where replicas
hold everything already, as they do at once after a rollback, nothing is loaded and nobody is waited for.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.errors import PublishError, RegistryError, StaleRevisionError
from lab.routing.document import RouteTable
from lab.routing.edits import sharing
from lab.routing.validators import timeout_seconds
from services.controlplane.nodes.membership import Member
from services.controlplane.publishing.fleet import Fleet
from services.controlplane.publishing.peers import LOST_S, FollowerSync, LeaderSync, Peers, follow
from services.controlplane.publishing.phase_progress import PhaseProgress, Report, reporting
from services.controlplane.publishing.replica_snapshot import ReplicaSnapshot
from services.controlplane.registry.revisions import best_effort
from services.controlplane.registry.store import Acknowledgement, Event, Phase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable

    from services.controlplane.publishing.peers import PhaseSync
    from services.controlplane.registry.revisions import Registry

log = logging.getLogger(__name__)

NOTHING_TO_LOAD = "nothing to load: replicas hold every version already"
SKIPPED = "skipped: unsafe, on demand"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a publish waits, seconds.

    Attributes:
        load: for replicas to load model versions.
        acknowledge: for nodes to apply what they were sent.
        settle: before the first request may go where a node has just said that it knows the way. Envoy says so on its
            main thread, and gRPC as soon as it has read; the threads that send follow a moment later, which on a busy
            machine takes tens of milliseconds.
        retire: before what is no longer referenced is unloaded; added to the longest time-out of any use case.
    """

    load: float = 30.0
    acknowledge: float = 5.0
    settle: float = 0.1
    retire: float = 1.0


@dataclass(slots=True)
class _Sent:
    """What a publish has sent so far: generation and time, Unix nanoseconds; 0 if nothing."""

    xds: int = 0
    xds_ns: int = 0
    rules: int = 0
    rules_ns: int = 0


@dataclass(slots=True)
class Publisher:
    """Carries revisions out, one at a time.

    Attributes:
        name: of this control plane among several that serve the revisions of one store; empty if it is alone.
        table: the route table in force.
        revision: its revision, 0 before the first.
        fleet: everybody who is told.
        peers: the other control planes.
    """

    registry: Registry
    timeouts: Timeouts = field(default_factory=Timeouts)
    name: str = ""
    fleet: Fleet = field(init=False)
    peers: Peers = field(init=False)
    revision: int = 0
    table: RouteTable = field(default_factory=lambda: RouteTable.from_document({}))
    _retiring: list[RouteTable] = field(default_factory=list)
    _background: set[asyncio.Task[None]] = field(default_factory=set)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _replica_snapshot: ReplicaSnapshot = field(init=False)

    def __post_init__(self) -> None:
        self.fleet = Fleet(self._replicas_changed, self.registry.clock.now_ns)
        self._replica_snapshot = ReplicaSnapshot(self.registry, self.fleet.membership.members_of)
        self.peers = Peers(self.registry, self.name)

    def _replicas_changed(self, clusters: Collection[str]) -> None:
        self._replica_snapshot.changed(clusters)

    def restore(self) -> None:
        """Puts the revision in force back after a restart.

        A publish that was cut off is marked as failed, but only once nodes have had time to come back and take the
        revision in force: until then some may still act on the other.
        """
        self.revision = self.registry.in_force()
        if self.revision:
            self.table = RouteTable.from_document(self.registry.document(self.revision))
            log.info("revision %d is in force", self.revision)
        self.fleet.membership.remember(
            Member(each.cluster, each.replica, each.address, frozenset(each.loaded))
            for each in self.registry.replicas()
        )
        if self.revision:
            self._resume_retiring()
            self.fleet.assign(self.revision, [self.table, *self._retiring])
            self.fleet.place(self.table)
            self.fleet.store.subscribers.mark_revision(self.revision)
            self.fleet.feed.publish_rules(self.revision, self.table)
        if self.name:
            self._spawn(self.peers.watch())
            self._spawn(follow(self.peers, is_known=self._is_known, carry_out=self._follow))
        elif cut_off := self.registry.unfinished():
            self._spawn(self._fail_later(cut_off))

    async def publish(
        self,
        table_after: Callable[[RouteTable], RouteTable],
        *,
        author: str,
        comment: str,
        expected_revision: int,
        progress: Callable[[int, Event], None],
        waiting: Callable[[int, PhaseProgress], None] = lambda *_: None,
        called_ns: int = 0,
        unsafe_skip_phases: bool = False,
    ) -> int:
        """Carries out one revision and returns its number once every node has converged.

        Args:
            table_after: the route table to publish, valid, made of the one in force; sharing what it has in common
                with that makes the publish cheap.
            author: who publishes.
            comment: why.
            expected_revision: refuse unless this one is in force; 0 for whichever is.
            progress: called with the revision and each of its events.
            waiting: called every now and then while a phase takes its time.
            called_ns: when the call arrived, Unix nanoseconds; now if 0.
            unsafe_skip_phases: rules first and at once, see :meth:`_break_before_make`.

        Raises:
            StaleRevisionError: another revision is in force.
            RouteTableError: ``table_after`` found that there is none.
            PublishError: a phase failed; names the node and the reason. Or nothing can be stored; says why.
        """
        called_ns = called_ns or self.registry.clock.now_ns()
        async with self._lock:
            if expected_revision not in (0, self.revision):
                raise StaleRevisionError(
                    f"revision {self.revision} is in force, not {expected_revision}: look at it, then publish again"
                )
            before, table = self.table, table_after(self.table)
            try:
                revision, stored = self.registry.append(
                    table.document,
                    author=author,
                    comment=comment,
                    created_ns=called_ns,
                    replaces=(self.revision, before.document),
                    after=self.peers.seen,
                    detail=self.name,
                )
            except RegistryError as error:
                raise PublishError(str(error)) from error
            log.info("publishing revision %d by %s", revision, author)
            self.peers.latest = revision
            progress(revision, stored)

            def record(phase: Phase, detail: str = "", acknowledgements: Iterable[Acknowledgement] = ()) -> None:
                progress(revision, self.registry.record(revision, phase, detail, tuple(acknowledgements)))

            sent = _Sent()
            course = LeaderSync(self.peers, revision, record)
            carry_out = self._break_before_make if unsafe_skip_phases else self._make_before_break
            try:
                await carry_out(revision, table, sent, course, lambda seen: waiting(revision, seen))
            except (PublishError, RegistryError) as error:
                log.error("revision %d failed: %s", revision, error)  # noqa: TRY400 (the message says it all)
                acknowledgements = self.acknowledgements(sent)
                await self._put_back()
                # What cannot be stored now is stored by the next control plane: it finds a publish that was cut off.
                with best_effort(), suppress(StaleRevisionError):  # another control plane has taken this one for lost
                    record(Phase.FAILED, str(error), acknowledgements)
                raise PublishError(str(error)) from error
            if unsafe_skip_phases:
                self.table, self.revision = table, revision
                record(Phase.RETIRED, SKIPPED)
            else:
                self._replace(revision, table)
            return revision

    def _replace(self, revision: int, table: RouteTable) -> None:
        """Another revision is in force from now on; what the one before needed is retired."""
        before, self.table, self.revision = self.table, table, revision
        self._retiring.append(before)
        self._spawn(self._retire(revision, before))

    def _is_known(self, revision: int) -> bool:
        return revision <= max(self.revision, self.peers.latest)

    async def _follow(self, course: FollowerSync) -> None:
        """Carries out what another control plane publishes, or puts back what it could not."""
        async with self._lock:
            revision, sent = course.revision, _Sent()
            log.info("following revision %d, which %s publishes", revision, course.leader)
            table = sharing(RouteTable.of_valid(self.registry.document(revision)), self.table)
            work = self._make_before_break(revision, table, sent, course, lambda _: None)
            carrying = asyncio.create_task(_telling(work, course))
            try:
                converged = await course.ended() is Phase.CONVERGED
                if converged and not await carrying:
                    # It is in force, whoever of the nodes here refuses it.
                    self.fleet.place(table)
                    self.fleet.feed.publish_rules(revision, table)
            finally:
                carrying.cancel()
                await asyncio.gather(carrying, return_exceptions=True)
            if converged:
                self._replace(revision, table)
            else:
                await self._put_back()
            self.peers.latest = max(self.peers.latest, revision)

    async def _make_before_break(
        self, revision: int, table: RouteTable, sent: _Sent, course: PhaseSync, report: Report
    ) -> None:
        fleet, limit_s = self.fleet, self.timeouts.acknowledge
        sidecars, routers = fleet.store.subscribers, fleet.feed.subscribers
        needed = fleet.needed(table)
        # To load may take long; to say that one is there may not.
        await course.others(Phase.STORED, timeout_s=limit_s + LOST_S)
        if there := fleet.membership.holds(needed):
            await course.others(Phase.LOADED, timeout_s=self.timeouts.load + LOST_S)
        else:
            fleet.assign(revision, [self.table, *self._retiring, table])
            await course.others(Phase.LOADED, timeout_s=self.timeouts.load + LOST_S)
            loading = fleet.membership.wait_loaded(needed, timeout_s=self.timeouts.load)
            await reporting(loading, report, lambda: PhaseProgress.for_loading(fleet.membership, needed))
        await course.reached(Phase.LOADED, NOTHING_TO_LOAD if there else "")
        placed = fleet.place(table)
        sent.xds, sent.xds_ns = placed.xds, self.registry.clock.now_ns()
        sidecars.mark_revision(revision)
        await course.others(Phase.ENDPOINTS, timeout_s=limit_s + LOST_S)
        knowing = asyncio.gather(
            sidecars.wait_applied(placed.xds, timeout_s=limit_s),
            routers.wait_applied(placed.rules, timeout_s=limit_s),
        )
        streams = ((sidecars, placed.xds), (routers, placed.rules))
        await reporting(knowing, report, lambda: PhaseProgress.for_nodes(Phase.ENDPOINTS, *streams))
        if placed.has_new and len(sidecars):  # until it has, one that moves is answered where it was
            await asyncio.sleep(self.timeouts.settle)
        await course.reached(Phase.ENDPOINTS)
        sent.rules = fleet.feed.publish_rules(revision, table)
        sent.rules_ns = self.registry.clock.now_ns()
        await course.others(Phase.CONVERGED, timeout_s=limit_s + LOST_S)
        deciding = routers.wait_applied(sent.rules, timeout_s=limit_s)
        await reporting(deciding, report, lambda: PhaseProgress.for_nodes(Phase.CONVERGED, (routers, sent.rules)))
        await course.reached(Phase.CONVERGED, acknowledgements=self.acknowledgements(sent))

    async def _break_before_make(
        self, revision: int, table: RouteTable, sent: _Sent, course: PhaseSync, report: Report
    ) -> None:
        """What a control plane without phases does, for demonstration.

        Rules first; only then do models begin to load, and what is replaced is unloaded at once.
        """
        fleet = self.fleet
        await course.reached(Phase.LOADED, SKIPPED)
        await course.reached(Phase.ENDPOINTS, SKIPPED)
        self._retiring.clear()
        sent.rules = fleet.feed.publish_rules(revision, table)
        sent.rules_ns = self.registry.clock.now_ns()
        fleet.assign(revision, [table])
        sent.xds = fleet.place(table).xds
        fleet.keep_only([table])
        sent.xds_ns = self.registry.clock.now_ns()
        fleet.store.subscribers.mark_revision(revision)
        routers = fleet.feed.subscribers
        deciding = routers.wait_applied(sent.rules, timeout_s=self.timeouts.acknowledge)
        await reporting(deciding, report, lambda: PhaseProgress.for_nodes(Phase.CONVERGED, (routers, sent.rules)))
        await course.reached(Phase.CONVERGED, SKIPPED, self.acknowledgements(sent))

    def acknowledgements(self, sent: _Sent) -> list[Acknowledgement]:
        """Who has all that was sent to it: sidecars clusters and endpoints, resolvers and gateways the rules."""
        found = self.fleet.store.subscribers.acknowledgements(sent.xds, sent.xds_ns) if sent.xds_ns else []
        if sent.rules_ns:
            found += self.fleet.feed.subscribers.acknowledgements(sent.rules, sent.rules_ns)
        return sorted(found, key=lambda each: each.node)

    async def _put_back(self) -> None:
        """The revision in force, everywhere; what cannot be reached takes it when it comes back."""
        fleet = self.fleet
        placed = fleet.place(self.table)
        fleet.store.subscribers.mark_revision(self.revision)
        feed_sequence = fleet.feed.publish_rules(self.revision, self.table)
        for subscribers, generation in (
            (fleet.store.subscribers, placed.xds),
            (fleet.feed.subscribers, feed_sequence),
        ):
            try:
                await subscribers.wait_applied(generation, timeout_s=self.timeouts.acknowledge)
            except PublishError as error:
                log.warning("putting revision %d back: %s", self.revision, error)
        self._keep_only_wanted()

    async def _retire(self, revision: int, before: RouteTable) -> None:
        await asyncio.sleep(self.timeouts.retire + _longest_timeout_s(before))
        async with self._lock:
            if all(each is not before for each in self._retiring):
                return  # a publish without phases has taken it away already
            self._retiring[:] = [each for each in self._retiring if each is not before]
            if before.versions is not self.table.versions:
                self._keep_only_wanted()
            else:
                self.fleet.keep_only_routes([self.table, *self._retiring])
            with best_effort(), suppress(StaleRevisionError):  # another control plane was sooner
                self.registry.record(revision, Phase.RETIRED)

    def _keep_only_wanted(self) -> None:
        wanted = [self.table, *self._retiring]
        self.fleet.assign(self.revision, wanted)
        self.fleet.keep_only(wanted)

    def _resume_retiring(self) -> None:
        """A restart between convergence and retirement must not cut off what was still on its way."""
        converged = [each for each in self.registry.all() if any(e.phase is Phase.CONVERGED for e in each.events)]
        latest = converged[-1]
        if len(converged) > 1 and all(event.phase is not Phase.RETIRED for event in latest.events):
            before = RouteTable.of_valid(self.registry.document(converged[-2].revision))
            self._retiring.append(before)
            self._spawn(self._retire(latest.revision, before))

    async def _fail_later(self, revisions: Iterable[int]) -> None:
        await asyncio.sleep(self.timeouts.retire)
        for revision in revisions:
            with best_effort():
                self.registry.record(revision, Phase.FAILED, "the control plane was stopped during this publish")

    async def cancel_background(self) -> None:
        """Ends what is still to be done later; a restart takes it up again."""
        for task in self._background:
            task.cancel()
        self._replica_snapshot.finish()
        await asyncio.gather(*self._background, return_exceptions=True)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _telling(work: Awaitable[None], course: FollowerSync) -> bool:
    """Whether it was carried out; if not, who leads it is told why."""
    try:
        await work
    except (PublishError, RegistryError) as error:
        log.error("revision %d failed here: %s", course.revision, error)  # noqa: TRY400 (the message says it all)
        course.failed(error)
        return False
    return True


def _longest_timeout_s(table: RouteTable) -> float:
    texts = {use_case["timeout"] for use_case in table.document["use_cases"].values()}
    return max((timeout_seconds(text) or 0.0 for text in texts), default=0.0)
