"""Publishing a revision, in phases: make before break.

::

    stored     the route table is valid, and its revision durable
    loaded     every replica that is to serve a new model version has loaded it
    endpoints  every sidecar and gateway knows where it is; moved keys go to their new cluster from here on
    converged  every resolver and gateway decides by the new rules, and no caller holds a decision by the old
    retired    what is no longer referenced is unloaded, once nothing can be on its way to it

A phase that fails or times out ends the publish: the revision before is put back and stays in force.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.errors import LabError, PublishError
from lab.routing.compiled import Router
from lab.routing.document import RouteTable
from services.controlplane.membership import Member, Membership, Version
from services.controlplane.registry import Event, Phase, StoredReplica
from services.controlplane.rules import RulesFeed
from services.controlplane.xds.resources import endpoint_set_name
from services.controlplane.xds.store import ResourceStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from services.controlplane.registry import Registry

log = logging.getLogger(__name__)


class StaleRevisionError(LabError):
    """Somebody else has published since the publisher looked."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a publish waits, seconds.

    Attributes:
        load: for replicas to load model versions.
        acknowledge: for nodes to apply what they were sent.
        retire: before what is no longer referenced is unloaded; added to the longest time-out of any use case.
    """

    load: float = 30.0
    acknowledge: float = 5.0
    retire: float = 1.0


@dataclass(slots=True)
class Publisher:
    """Carries revisions out, one at a time, and keeps endpoints up to date in between.

    Attributes:
        table: the route table in force.
        revision: its revision, 0 before the first.
    """

    registry: Registry
    timeouts: Timeouts = field(default_factory=Timeouts)
    store: ResourceStore = field(default_factory=ResourceStore)
    feed: RulesFeed = field(default_factory=RulesFeed)
    membership: Membership = field(init=False)
    revision: int = 0
    table: RouteTable = field(default_factory=lambda: RouteTable.from_document({}))
    _placement: dict[str, str] = field(default_factory=dict)  # routing key → model cluster, as nodes are told
    _retiring: list[RouteTable] = field(default_factory=list)
    _background: set[asyncio.Task[None]] = field(default_factory=set)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _frozen: bool = False

    def __post_init__(self) -> None:
        self.membership = Membership(self._endpoints_changed)

    def restore(self) -> None:
        """Puts the revision in force back after a restart.

        A publish that was cut off is marked as failed, but only once nodes have had time to come back and take the
        revision in force: until then some may still act on the other.
        """
        self.revision = self.registry.in_force()
        stored = self.registry.get(self.revision)
        if stored is not None:
            self.table = RouteTable.from_document(stored.document)
            log.info("revision %d is in force", self.revision)
        self.membership.remember(
            Member(each.cluster, each.replica, each.address, frozenset(each.loaded))
            for each in self.registry.replicas()
        )
        if self.revision:
            self._resume_retiring()
            self._assign(self.revision, [self.table, *self._retiring])
            self._place(self.table)
            self.store.subscribers.mark_revision(self.revision)
            self.feed.publish_rules(self.revision, self.table)
        cut_off = self.registry.unfinished()
        if cut_off:
            self._spawn(self._fail_later(cut_off))

    async def publish(
        self,
        table: RouteTable,
        *,
        author: str,
        comment: str,
        expected_revision: int,
        progress: Callable[[int, Event], None],
    ) -> int:
        """Carries out one revision and returns its number once every node has converged.

        Args:
            table: the route table, already valid.
            author: who publishes.
            comment: why.
            expected_revision: refuse unless this one is in force; 0 for whichever is.
            progress: called with the revision and each of its events.

        Raises:
            StaleRevisionError: another revision is in force.
            PublishError: a phase failed; names the node and the reason.
        """
        async with self._lock:
            if expected_revision not in (0, self.revision):
                raise StaleRevisionError(
                    f"revision {self.revision} is in force, not {expected_revision}: look at it, then publish again"
                )
            revision = self.registry.append(table.document, author=author, comment=comment)
            log.info("publishing revision %d by %s", revision, author)
            progress(revision, self.registry.get(revision).events[0])  # type: ignore[union-attr]  # just stored

            def record(phase: Phase, detail: str = "") -> None:
                progress(revision, self.registry.record(revision, phase, detail))

            try:
                await self._load(revision, table)
                record(Phase.LOADED)
                await self._send_endpoints(revision, table)
                record(Phase.ENDPOINTS)
                await self._send_rules(revision, table)
            except PublishError as error:
                log.error("revision %d failed: %s", revision, error)  # noqa: TRY400 (the message says it all)
                await self._put_back()
                record(Phase.FAILED, str(error))
                raise
            before, self.table, self.revision = self.table, table, revision
            record(Phase.CONVERGED)
            self._retiring.append(before)
            self._spawn(self._retire(revision, before))
            return revision

    async def _load(self, revision: int, table: RouteTable) -> None:
        self._assign(revision, [self.table, *self._retiring, table])
        needed: dict[str, set[str]] = defaultdict(set)
        for key, version in table.versions.items():
            needed[version.cluster].add(key)
        await self.membership.wait_loaded(needed, revision=revision, timeout_s=self.timeouts.load)

    async def _send_endpoints(self, revision: int, table: RouteTable) -> None:
        xds_generation, feed_sequence = self._place(table)
        self.store.subscribers.mark_revision(revision)
        await asyncio.gather(
            self.store.subscribers.wait_applied(xds_generation, timeout_s=self.timeouts.acknowledge),
            self.feed.subscribers.wait_applied(feed_sequence, timeout_s=self.timeouts.acknowledge),
        )

    async def _send_rules(self, revision: int, table: RouteTable) -> None:
        sequence = self.feed.publish_rules(revision, table)
        await self.feed.subscribers.wait_applied(sequence, timeout_s=self.timeouts.acknowledge)

    async def _put_back(self) -> None:
        """The revision in force, everywhere; what cannot be reached takes it when it comes back."""
        xds_generation, _ = self._place(self.table)
        self.store.subscribers.mark_revision(self.revision)
        feed_sequence = self.feed.publish_rules(self.revision, self.table)
        for subscribers, generation in (
            (self.store.subscribers, xds_generation),
            (self.feed.subscribers, feed_sequence),
        ):
            try:
                await subscribers.wait_applied(generation, timeout_s=self.timeouts.acknowledge)
            except PublishError as error:
                log.warning("putting revision %d back: %s", self.revision, error)
        self._unplace(key for key in list(self._placement) if key not in self.table.versions)
        self._assign(self.revision, [self.table, *self._retiring])

    async def _retire(self, revision: int, before: RouteTable) -> None:
        await asyncio.sleep(self.timeouts.retire + _longest_timeout_s(before))
        async with self._lock:
            self._retiring.remove(before)
            wanted = [self.table, *self._retiring]
            self._assign(self.revision, wanted)
            self._unplace(key for key in before.versions if all(key not in table.versions for table in wanted))
            held = {
                endpoint_set_name(version.cluster, key) for table in wanted for key, version in table.versions.items()
            }
            gone = [
                name
                for key, version in before.versions.items()
                if (name := endpoint_set_name(version.cluster, key)) not in held
            ]
            self.store.update(removed_endpoint_sets=gone)
            self.registry.record(revision, Phase.RETIRED)

    def _resume_retiring(self) -> None:
        """A restart between convergence and retirement must not cut off what was still on its way."""
        converged = [each for each in self.registry.all() if any(e.phase is Phase.CONVERGED for e in each.events)]
        latest = converged[-1]
        if len(converged) > 1 and all(event.phase is not Phase.RETIRED for event in latest.events):
            before = RouteTable.from_document(converged[-2].document)
            self._retiring.append(before)
            self._spawn(self._retire(latest.revision, before))

    async def _fail_later(self, revisions: Iterable[int]) -> None:
        await asyncio.sleep(self.timeouts.retire)
        for revision in revisions:
            self.registry.record(revision, Phase.FAILED, "the control plane was stopped during this publish")

    def _assign(self, revision: int, tables: Iterable[RouteTable]) -> None:
        versions: dict[str, dict[str, Version]] = defaultdict(dict)
        for table in tables:
            for key, version in table.versions.items():
                versions[version.cluster][key] = Version(key, version.model, version.version)
        self.membership.assign(revision, {cluster: list(held.values()) for cluster, held in versions.items()})

    def _place(self, table: RouteTable) -> tuple[int, int]:
        """Tells sidecars and gateways where the table's keys are; returns both streams' generations."""
        placement = {key: version.cluster for key, version in table.versions.items()}
        self._placement.update(placement)
        addresses = {key: self.membership.addresses(cluster, key) for key, cluster in placement.items()}
        return (
            self.store.update(
                clusters=placement,
                endpoint_sets={endpoint_set_name(cluster, key): addresses[key] for key, cluster in placement.items()},
            ),
            self.feed.publish_endpoints({key: (cluster, addresses[key]) for key, cluster in placement.items()}),
        )

    def _unplace(self, keys: Iterable[str]) -> None:
        gone = [key for key in keys if self._placement.pop(key, None) is not None]
        self.store.update(removed_clusters=gone)
        self.feed.publish_endpoints({}, removed=gone)

    def freeze(self) -> None:
        """The control plane is about to end: that its streams end says nothing about the replicas behind them."""
        self._frozen = True

    def _endpoints_changed(self, cluster: str) -> None:
        """A replica has come, gone, loaded or unloaded something."""
        if self._frozen:
            return
        keys = [key for key, placed in self._placement.items() if placed == cluster]
        addresses = {key: self.membership.addresses(cluster, key) for key in keys}
        self.store.update(endpoint_sets={endpoint_set_name(cluster, key): addresses[key] for key in keys})
        self.feed.publish_endpoints({key: (cluster, addresses[key]) for key in keys})
        self.registry.save_replicas(
            StoredReplica(each.cluster, each.replica, each.address, tuple(sorted(each.loaded)))
            for each in self.membership.members
        )

    async def cancel_background(self) -> None:
        """Ends what is still to be done later; a restart takes it up again."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _longest_timeout_s(table: RouteTable) -> float:
    use_cases = Router.of_document(table.document).use_cases.values()
    return max((use_case.timeout_s for use_case in use_cases), default=0.0)
