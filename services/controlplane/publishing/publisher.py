"""Publishes a revision in phases: make before break.

::

    stored     the route table is valid and its revision durable
    loaded     every replica that serves a new model version has loaded it
    endpoints  every sidecar and gateway has the endpoints of new keys; moved keys go to their new cluster from here on
    converged  every resolver and gateway decides by the new rules, and no caller holds a decision under the old ones
    retired    what is no longer referenced is unloaded, once no request can be on its way to it

A phase that fails ends the publish: the previous revision is restored and stays in force. If replicas hold every
version already, as right after a rollback, nothing is loaded and loading is not waited for. Nodes that refuse or do not
answer in time are left behind, and kept from acting on the previous revision: see ``docs/decisions/0026``.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from lab.errors import PublishError, RegistryError, StaleRevisionError
from lab.routing.bulk_allocation import freeze_what_follows
from lab.routing.difference import difference
from lab.routing.document import RouteTable
from lab.routing.edits import sharing
from services.controlplane.nodes.membership import Member
from services.controlplane.publishing.fleet import GATEWAY, Fleet, can_be_suspended
from services.controlplane.publishing.in_force import InForce, without
from services.controlplane.publishing.peers import LOST_S, FollowerSync, LeaderSync, Peers, PhaseSync, follow
from services.controlplane.publishing.phase_progress import PhaseProgress, Report, reporting
from services.controlplane.publishing.replica_snapshot import ReplicaSnapshot
from services.controlplane.publishing.rules_feed import RESOLVER
from services.controlplane.registry.records import Acknowledgement, Event, Phase
from services.controlplane.registry.revisions import Registry, best_effort

log = logging.getLogger(__name__)

NOTHING_TO_LOAD = "nothing to load: replicas hold every version already"
SKIPPED = "skipped: unsafe, on demand"


_SILENT = re.compile(rf"\b({RESOLVER}|{GATEWAY}) (\S+): no answer")
"""In the detail of ``converged``: role and name of nodes whose decisions are refused."""

_RETURN_S = 2.5
"""For a node whose stream was cut to be back: its callers may hold leases for a second."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a publish waits, seconds.

    Attributes:
        load: for replicas to load model versions.
        acknowledge: for nodes to apply an update.
        settle: between a node's acknowledgement of new endpoints and the first request to them. Envoy acknowledges on
            its main thread, and gRPC after reading; their worker threads follow, after tens of milliseconds on a busy
            machine.
        retire: before unreferenced versions are unloaded; added to the longest timeout of any use case.
    """

    load: float = 30.0
    acknowledge: float = 5.0
    settle: float = 0.1
    retire: float = 1.0


@dataclass(slots=True)
class _Sent:
    """Generations and times (Unix nanoseconds) of what a publish has sent so far; 0 if nothing."""

    xds: int = 0
    xds_ns: int = 0
    rules: int = 0
    rules_ns: int = 0


@dataclass(slots=True)
class Publisher:
    """Publishes revisions, one at a time.

    Attributes:
        name: of this control plane among several over one store; empty if it is the only one.
        in_force: the route table in force, and the stage.
        fleet: all nodes.
        peers: the other control planes.
        phases: how often each phase was reached.
        phase_seconds: time from the publish calls until then, in total.
    """

    registry: Registry
    timeouts: Timeouts = field(default_factory=Timeouts)
    name: str = ""
    fleet: Fleet = field(init=False)
    peers: Peers = field(init=False)
    in_force: InForce = field(default_factory=lambda: InForce(0, RouteTable.from_document({})))
    phases: Counter[Phase] = field(default_factory=Counter)
    phase_seconds: defaultdict[Phase, float] = field(default_factory=lambda: defaultdict(float))
    _retiring: list[RouteTable] = field(default_factory=list)
    _background: set[asyncio.Task[None]] = field(default_factory=set)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _replica_snapshot: ReplicaSnapshot = field(init=False)

    def __post_init__(self) -> None:
        self.fleet = Fleet(self._replicas_changed, self.registry.clock.now_ns)
        self._replica_snapshot = ReplicaSnapshot(self.registry, self.fleet.membership.members_of)
        self.peers = Peers(self.registry, self.name)

    @property
    def revision(self) -> int:
        """The revision in force for all callers, 0 before the first."""
        return self.in_force.revision

    @property
    def table(self) -> RouteTable:
        """Its route table."""
        return self.in_force.table

    def _replicas_changed(self, clusters: Collection[str]) -> None:
        self._replica_snapshot.changed(clusters)

    def restore(self) -> None:
        """Restores the revision in force after a restart.

        An interrupted publish is marked as failed only after nodes had time to reconnect and apply the revision in
        force; until then some may still act on the other.
        """
        if revision := self.registry.in_force():
            table = RouteTable.from_document(self.registry.document(revision))
            self.in_force = InForce(revision, table)
            if staged := self.registry.staged():
                table = sharing(RouteTable.of_valid(self.registry.document(staged)), table)
                self.in_force = self.in_force.followed_by(staged, table, self._callers(staged))
            log.info("revision %d is in force%s", revision, f"; {self.in_force.stage}" if staged else "")
        self.fleet.membership.remember(
            Member(each.cluster, each.replica, each.address, frozenset(each.loaded))
            for each in self.registry.replicas()
        )
        if self.revision:
            self._resume_retiring()
            self.fleet.assign(self.in_force.latest, self.in_force.tables, retiring=self._retiring)
            self.fleet.place(self.in_force.tables)
            self.fleet.sidecars.mark_revision(self.in_force.latest)
            self._suspend_again(self.fleet.publish_rules(self.in_force))
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
        callers: Collection[str] = (),
        ends_stage: bool = True,
    ) -> int:
        """Publishes one revision and returns its number once every node has converged.

        Args:
            table_after: makes the valid route table to publish from the one in force. The publish costs less the more
                objects the two share.
            author: who publishes.
            comment: why.
            expected_revision: the revision that must be in force; 0 skips the check.
            progress: called with the revision and each of its events.
            waiting: called at intervals during a slow phase.
            called_ns: when the call arrived, Unix nanoseconds; now if 0.
            unsafe_skip_phases: sends rules first and at once, see :meth:`_break_before_make`; not to some callers.
            callers: publishes to these only, besides those for whom the same table is staged; to all if there are none.
            ends_stage: whether a publish to all may end the stage.

        Raises:
            StaleRevisionError: another revision is in force.
            RouteTableError: from ``table_after``.
            PublishError: a phase failed, names the node and the reason; or the store failed.
        """
        called_ns = called_ns or self.registry.clock.now_ns()
        async with self._lock:
            if expected_revision not in (0, self.in_force.latest):
                latest = self.in_force.latest
                raise StaleRevisionError(
                    f"revision {latest} is in force, not {expected_revision}: check it, then publish again"
                )
            before, table = self.table, table_after(self.table)
            self._check_stage(table, table_after, callers, ends_stage=ends_stage)
            if callers and self.in_force.stage:
                callers = self.in_force.stage.callers.union(callers)
            try:
                revision, stored = self.registry.append(
                    table.document,
                    author=author,
                    comment=comment,
                    created_ns=called_ns,
                    replaces=(self.revision, before.document),
                    within=difference(before, table),
                    after=self.peers.seen,
                    above=self.fleet.latest_seen,
                    detail=self.name,
                    callers=callers,
                )
            except RegistryError as error:
                raise PublishError(str(error)) from error
            log.info("publishing revision %d by %s", revision, author)
            self.peers.latest = revision

            def reached(event: Event) -> None:
                self.phases[event.phase] += 1
                self.phase_seconds[event.phase] += (event.at_ns - called_ns) / 1e9
                progress(revision, event)

            def record(phase: Phase, detail: str = "", acknowledgements: Iterable[Acknowledgement] = ()) -> None:
                reached(self.registry.record(revision, phase, detail, tuple(acknowledgements)))

            reached(stored)

            after, sent = self.in_force.followed_by(revision, table, callers), _Sent()
            sync = LeaderSync(self.peers, revision, record)
            carry_out = self._break_before_make if unsafe_skip_phases else self._make_before_break
            try:
                await carry_out(after, sent, sync, lambda seen: waiting(revision, seen))
            except (PublishError, RegistryError) as error:
                log.error("revision %d failed: %s", revision, error)  # noqa: TRY400 (the message says it all)
                acknowledgements = self.acknowledgements(sent)
                await self._put_back()
                # If the store is down, the next control plane records the failure: it finds an interrupted publish.
                with best_effort(), suppress(StaleRevisionError):  # another control plane has failed it already
                    record(Phase.FAILED, str(error), acknowledgements)
                raise PublishError(str(error)) from error
            if unsafe_skip_phases:
                self.in_force = after
                record(Phase.RETIRED, SKIPPED)
            else:
                self._replace(after)
            return revision

    def _check_stage(
        self,
        table: RouteTable,
        table_after: Callable[[RouteTable], RouteTable],
        callers: Collection[str],
        *,
        ends_stage: bool,
    ) -> None:
        """Checks a publish against the stage, and a publish to some callers.

        Raises:
            PublishError: it cannot be staged, or may not end the stage.
            RouteTableError: from ``table_after``.
        """
        stage = self.in_force.stage
        if callers:
            self.in_force.require_stageable(table, callers, self.fleet.live.callers())
            if several := self.fleet.serving_several():
                raise PublishError(f"{several[0]} decides for all callers by one set of rules: publish to all")
        elif stage and not ends_stage:
            raise PublishError(f"{stage}: publish it to all, or roll it back, before you change single entries")
        elif stage:
            table_after(stage.table)  # its publisher must own what that changes for the callers of the stage, too

    def _replace(self, after: InForce) -> None:
        """Puts another state in force, and schedules the retirement of the tables that are in force no longer."""
        before, self.in_force = self.in_force, after
        freeze_what_follows()
        if leaving := without(before.tables, after.tables):
            self._retiring += leaving
            self._spawn(self._retire(after.latest, leaving))

    def _is_known(self, revision: int) -> bool:
        return revision <= max(self.revision, self.peers.latest)

    async def _follow(self, sync: FollowerSync) -> None:
        """Carries out a publish that another control plane leads, or restores the revision in force."""
        async with self._lock:
            revision, sent = sync.revision, _Sent()
            log.info("following revision %d, which %s publishes", revision, sync.leader)
            table = sharing(RouteTable.of_valid(self.registry.document(revision)), self.table)
            after = self.in_force.followed_by(revision, table, self._callers(revision))
            work = self._make_before_break(after, sent, sync, lambda _: None)
            carrying = asyncio.create_task(_succeeded(work, sync))
            try:
                converged = await sync.ended() is Phase.CONVERGED
                if converged and not await carrying:
                    # It is in force, even if a node here refuses it.
                    self.fleet.place(after.tables)
                    self.fleet.publish_rules(after)
            finally:
                carrying.cancel()
                await asyncio.gather(carrying, return_exceptions=True)
            if converged:
                self._replace(after)
            else:
                await self._put_back()
            self.peers.latest = max(self.peers.latest, revision)

    def _callers(self, revision: int) -> tuple[str, ...]:
        """To whom a revision was published; none for all."""
        stored = self.registry.get(revision)
        return stored.callers if stored else ()

    async def _make_before_break(self, after: InForce, sent: _Sent, sync: PhaseSync, report: Report) -> None:
        fleet, limit_s, revision = self.fleet, self.timeouts.acknowledge, after.latest
        sidecars, routers = fleet.sidecars, fleet.routers
        # Loading may take long; announcing that this one takes part may not.
        await sync.others(Phase.STORED, timeout_s=limit_s + LOST_S)
        is_sent = fleet.assign(revision, self.in_force.with_all(after), retiring=self._retiring)
        unready = fleet.unready()
        there = not is_sent and fleet.membership.holds(unready)
        await sync.others(Phase.LOADED, timeout_s=self.timeouts.load + LOST_S)
        if not there:
            loading = fleet.membership.wait_loaded(unready, timeout_s=self.timeouts.load)
            await reporting(loading, report, lambda: PhaseProgress.for_loading(fleet.membership, unready))
        await sync.reached(Phase.LOADED, NOTHING_TO_LOAD if there else "")
        placed = fleet.place(after.tables)
        sent.xds, sent.xds_ns = placed.xds, self.registry.clock.now_ns()
        sidecars.mark_revision(revision)
        await sync.others(Phase.ENDPOINTS, timeout_s=limit_s + LOST_S)
        knowing = asyncio.gather(
            sidecars.wait_applied(placed.xds, timeout_s=limit_s),
            routers.wait_applied(placed.rules, timeout_s=limit_s, may_be_silent=can_be_suspended),
        )
        streams = ((sidecars, placed.xds), (routers, placed.rules))
        await reporting(knowing, report, lambda: PhaseProgress.for_nodes(Phase.ENDPOINTS, *streams))
        if placed.has_new and len(sidecars):  # until it has, requests for a moved key still reach its old cluster
            await asyncio.sleep(self.timeouts.settle)
        await sync.reached(Phase.ENDPOINTS)
        sent.rules = fleet.publish_rules(after)
        sent.rules_ns = self.registry.clock.now_ns()
        await sync.others(Phase.CONVERGED, timeout_s=limit_s + LOST_S)
        deciding = routers.wait_applied(sent.rules, timeout_s=limit_s, may_be_silent=can_be_suspended)
        await reporting(deciding, report, lambda: PhaseProgress.for_nodes(Phase.CONVERGED, (routers, sent.rules)))
        await self._cut_off_refusing()
        await self._suspend_silent(sent.rules)
        if sidecars.late:
            await self._vacate(after)
        await sync.reached(Phase.CONVERGED, self._left_behind(), self.acknowledgements(sent))

    async def _cut_off_refusing(self) -> None:
        """Has resolvers and gateways that refused what others applied drop all their rules.

        Raises:
            PublishError: one has not dropped them in time.
        """
        feed = self.fleet.feed
        refusing = [each for each in feed.subscribers.late if each.refused >= each.left_behind]
        await feed.cut_off(refusing, timeout_s=_RETURN_S)

    async def _suspend_silent(self, generation: int) -> None:
        """Has models refuse what resolvers and gateways decide that are silent or gone, until they have caught up.

        Raises:
            PublishError: a model may not know it.
        """
        routers = self.fleet.routers
        silent = [each for each in routers if each.is_silent and each.applied < generation]
        nodes = [(each.role, each.node) for each in (*silent, *routers.gone.values()) if can_be_suspended(each)]
        if new := self.fleet.suspend(nodes, generation):
            for node in new:
                self._spawn(self.fleet.resumed(node))
            await self.fleet.membership.wait_suspended(timeout_s=_RETURN_S)

    async def _vacate(self, after: InForce) -> None:
        """Unloads keys where the latest table no longer has them, as some node may still send requests there.

        Raises:
            PublishError: a replica does not unload them, or loads what other control planes want, too.
        """
        before = [*without(self.in_force.tables, after.tables), *self._retiring]
        table = after.tables[-1]
        if not (vacated := self.fleet.vacated_by(table, before)):
            return
        if self.name:
            late = "; ".join(f"{each.title}: {each.error}" for each in self.fleet.sidecars.late)
            raise PublishError(f"cannot move model versions without these nodes while there are peers: {late}")
        await asyncio.sleep(self.fleet.live.longest_timeout_s)  # requests may be on their way there
        self.fleet.vacate(vacated)
        self.fleet.assign(after.latest, after.tables, retiring=before)
        await self.fleet.membership.wait_unloaded(vacated, timeout_s=self.timeouts.load)

    def _left_behind(self) -> str:
        """The nodes that are left behind, and why; empty if there are none."""
        nodes = [*self.fleet.sidecars.behind_by_now, *self.fleet.routers.behind_by_now]
        behind = "; ".join(f"{each.title}: {each.error}" for each in nodes)
        return f"left behind: {behind}" if behind else ""

    async def _break_before_make(self, after: InForce, sent: _Sent, sync: PhaseSync, report: Report) -> None:
        """Publishes without phases, to demonstrate what goes wrong.

        Rules go out first; only then do models begin to load, and replaced versions are unloaded at once.
        """
        fleet = self.fleet
        await sync.reached(Phase.LOADED, SKIPPED)
        await sync.reached(Phase.ENDPOINTS, SKIPPED)
        self._retiring.clear()
        sent.rules = fleet.publish_rules(after)
        sent.rules_ns = self.registry.clock.now_ns()
        fleet.assign(after.latest, after.tables)
        sent.xds = fleet.place(after.tables).xds
        fleet.keep_only(after.tables)
        sent.xds_ns = self.registry.clock.now_ns()
        fleet.sidecars.mark_revision(after.latest)
        routers = fleet.routers
        deciding = routers.wait_applied(sent.rules, timeout_s=self.timeouts.acknowledge)
        await reporting(deciding, report, lambda: PhaseProgress.for_nodes(Phase.CONVERGED, (routers, sent.rules)))
        await self._cut_off_refusing()
        await sync.reached(Phase.CONVERGED, SKIPPED, self.acknowledgements(sent))

    def acknowledgements(self, sent: _Sent) -> list[Acknowledgement]:
        """Nodes that applied what they were sent: sidecars, the endpoints; resolvers and gateways, the rules."""
        found = self.fleet.sidecars.acknowledgements(sent.xds, sent.xds_ns) if sent.xds_ns else []
        if sent.rules_ns:
            found += self.fleet.routers.acknowledgements(sent.rules, sent.rules_ns)
        return sorted(found, key=lambda each: each.node)

    async def _put_back(self) -> None:
        """Restores the revision in force on every node; unreachable nodes take it when they reconnect."""
        fleet = self.fleet
        placed = fleet.place(self.in_force.tables)
        fleet.sidecars.mark_revision(self.in_force.latest)
        feed_sequence = fleet.publish_rules(self.in_force)
        for subscribers, generation in (
            (fleet.sidecars, placed.xds),
            (fleet.routers, feed_sequence),
        ):
            try:
                await subscribers.wait_applied(generation, timeout_s=self.timeouts.acknowledge, again=True)
            except PublishError as error:
                log.warning("putting revision %d back: %s", self.revision, error)
        with suppress(PublishError):
            await self._cut_off_refusing()
        self._keep_only_wanted()

    async def _retire(self, revision: int, before: Sequence[RouteTable]) -> None:
        await asyncio.sleep(self.timeouts.retire + self.fleet.live.longest_timeout_s)
        async with self._lock:
            if len(kept := without(self._retiring, before)) == len(self._retiring):
                return  # a publish without phases removed them already
            self._retiring[:] = kept
            self._keep_only_wanted()
            with best_effort(), suppress(StaleRevisionError):  # another control plane was first
                self.registry.record(revision, Phase.RETIRED)

    def _keep_only_wanted(self) -> None:
        self.fleet.assign(self.in_force.latest, self.in_force.tables, retiring=self._retiring)
        self.fleet.keep_only([*self._retiring, *self.in_force.tables])

    def _resume_retiring(self) -> None:
        """Resumes an interrupted retirement, so that a restart does not cut off requests on their way."""
        converged = [each for each in self.registry.all() if any(e.phase is Phase.CONVERGED for e in each.events)]
        to_all = [place for place, each in enumerate(converged) if not each.callers]
        latest = converged[to_all[-1]]
        if len(to_all) > 1 and all(event.phase is not Phase.RETIRED for event in latest.events):
            # The table for all before it, and what was staged then: the stage ended with it.
            replaced = converged[to_all[-2] : to_all[-1]]
            ends = {bool(each.callers): each.revision for each in replaced}.values()
            before = [RouteTable.of_valid(self.registry.document(each)) for each in ends]
            self._retiring += before
            if any(event.phase is Phase.CONVERGED and event.detail for event in latest.events):  # nodes left behind
                self.fleet.vacate(self.fleet.vacated_by(self.table, before))
            self._spawn(self._retire(latest.revision, before))

    def _suspend_again(self, generation: int) -> None:
        """Suspends who was left behind without an answer by the revision in force, after a restart."""
        stored = self.registry.get(self.in_force.latest)
        details = [each.detail for each in stored.events if each.phase is Phase.CONVERGED] if stored else []
        for node in self.fleet.suspend(_SILENT.findall(" ".join(details)), generation):
            self._spawn(self.fleet.resumed(node))

    async def _fail_later(self, revisions: Iterable[int]) -> None:
        await asyncio.sleep(self.timeouts.retire)
        for revision in revisions:
            with best_effort():
                self.registry.record(revision, Phase.FAILED, "the control plane was stopped during this publish")

    async def cancel_background(self) -> None:
        """Cancels background work; a restart resumes it."""
        for task in self._background:
            task.cancel()
        self._replica_snapshot.finish()
        await asyncio.gather(*self._background, return_exceptions=True)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _succeeded(work: Awaitable[None], sync: FollowerSync) -> bool:
    """Whether the work succeeded; reports a failure to the leader."""
    try:
        await work
    except (PublishError, RegistryError) as error:
        log.error("revision %d failed here: %s", sync.revision, error)  # noqa: TRY400 (the message says it all)
        sync.failed(error)
        return False
    return True
