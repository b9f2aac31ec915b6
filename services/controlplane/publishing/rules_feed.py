"""The stream of rules to resolvers and gateways: a full state first, then deltas."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, NamedTuple, TypeVar

import orjson

from lab.plain_text import MAX_CHARACTERS, printable
from lab.routing.difference import difference, same
from lab.routing.document import ModelVersion, RouteTable
from lab.routing.keys import version_key
from lab.transport.memory_guard import expect_growth
from models.proto.control.v1 import rules_pb2
from services.controlplane.nodes.subscribers import Subscriber, Subscribers
from services.controlplane.nodes.zones import Zones
from services.controlplane.publishing.in_force import InForce
from services.controlplane.xds.resources import endpoint_set_name

T = TypeVar("T")

log = logging.getLogger(__name__)

RESOLVER = "resolver"
BESIDE_CALLER, _SHARED = f"-{RESOLVER}", f"shared-{RESOLVER}"

MAX_REVISION = 2**31
"""A node can come with no greater one: the next revision here gets a greater number."""

_NEVER = 2**63
_ANY = 2**64 - 1
"""As ``withdrawn_revision``: replaces any revision that the node holds."""


def caller_beside(node: str, role: str) -> str:
    """The one caller for which a resolver decides; empty for all other nodes."""
    beside = role == RESOLVER and node.endswith(BESIDE_CALLER) and node != _SHARED
    return node.removesuffix(BESIDE_CALLER) if beside else ""


class LeftBehindError(Exception):
    """The node's stream was ended because it refused an update that others applied; says why."""


class Served(NamedTuple):
    """Where a routing key is served.

    Attributes:
        cluster: its model cluster.
        addresses: ``ip:port`` of the replicas there that can answer it.
        standby: ``ip:port`` of the failover cluster's replicas, for when none of ``addresses`` can answer.
        failover: the failover cluster; empty if there is none.
    """

    routing_key: str
    cluster: str
    addresses: tuple[str, ...]
    standby: tuple[str, ...] = ()
    failover: str = ""

    @property
    def name(self) -> str:
        """Name of its endpoint set."""
        return endpoint_set_name(self.cluster, self.routing_key)


@dataclass(frozen=True)
class _Queued:
    """An update on its way to one node or to several."""

    update: rules_pb2.RulesUpdate

    @cached_property
    def size(self) -> int:
        """In bytes; measured once for all nodes, as that takes as long as to serialise the update."""
        return self.update.ByteSize()


@dataclass(slots=True, eq=False)
class _Feed(Subscriber):
    """One subscriber's stream.

    Attributes:
        last_sent: sequence number of the latest update on it.
        offered: sequence numbers of updates from injected faults, which are not part of the state.
        keeps_own: whether it keeps the rules that it came with, as there are none here.
        counts_from: sequence number before which nothing counts as applied, as it refused an update since, and holds
            others on top of a state that lacks it; :data:`_NEVER` until a full state is on its way.
    """

    with_endpoints: bool = False
    last_sent: int = 0
    queue: deque[_Queued] = field(default_factory=deque)
    offered: set[int] = field(default_factory=set)
    keeps_own: bool = False
    counts_from: int = 0

    @property
    def caller(self) -> str:
        """The one caller that it serves; empty if it serves several."""
        return caller_beside(self.node, self.role)

    def put(self, queued: _Queued) -> None:
        """Sends the node an update, after all that it has not been sent yet."""
        self.queue.append(queued)
        self.wake.set()


class RulesFeed:
    """The state of every resolver and gateway, and the updates on their way.

    Args:
        now_ns: the clock, Unix nanoseconds.

    Attributes:
        subscribers: the connected resolvers and gateways; their generation is the update's sequence number.
        latest_seen: the latest revision that a node came with while there was none here.
        zones: of the lab, by which gateways get the addresses of replicas.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.subscribers = Subscribers(now_ns)
        self.latest_seen = 0
        self.zones = Zones()
        self._feeds: set[_Feed] = set()
        # As last published, but with the revisions by which nodes know the rules.
        self._in_force = InForce(0, RouteTable.from_document({}))
        self._staged = rules_pb2.StagedRules()
        self._use_cases: dict[str, rules_pb2.UseCaseRules] = {}
        self._versions: dict[str, rules_pb2.ModelVersion] = {}
        self._endpoints: dict[str, rules_pb2.KeyEndpoints] = {}
        self._tenants: Mapping[str, Any] = {}

    def publish_endpoints(self, changed: Mapping[str, Served], removed: Iterable[str] = ()) -> int:
        """Sends where routing keys are served and returns the sequence number.

        Args:
            changed: by routing key.
            removed: routing keys that are no longer served.
        """
        update = rules_pb2.RulesUpdate(revision=self.revision)
        for key, served in changed.items():
            endpoints = rules_pb2.KeyEndpoints(
                routing_key=key,
                cluster=served.cluster,
                addresses=sorted(served.addresses),
                standby=sorted(served.standby),
                failover=served.failover,
            )
            if self._endpoints.get(key) != endpoints:
                self._endpoints[key] = endpoints
                update.endpoints.append(endpoints)
        update.removed_endpoints.extend(key for key in removed if self._endpoints.pop(key, None) is not None)
        return self._send(update)

    def publish_rules(self, published: InForce) -> int:
        """Sends the changed rules and returns the sequence number.

        A revision that changes no rule, such as a model's move, is not sent: decisions and leases under the previous
        rules stay valid. Changed tenant limits go to the gateways, under the revision of the rules they hold. A staged
        revision goes to the resolvers of its callers, and beside the other rules to all that serve several callers.
        """
        before = self._in_force
        update = _changes(before.table, published.table)
        stage_ends = before.stage is not None and published.stage is None
        is_new = _changes_rules(update) or stage_ends
        after = self._in_force = published if is_new else replace(published, revision=before.revision)
        _number(update, before.revision, after.revision)
        self._remember(update)
        tenants = after.table.document.get("tenants", {})
        if tenants != self._tenants:
            self._tenants = tenants
            update.tenants = orjson.dumps(tenants)
        if before.stage is not after.stage or (after.stage and is_new):
            self._staged = _staged(after)
            update.staged.CopyFrom(self._staged)
        sequence = self._send(update, cache(lambda caller: _for_caller(caller, before, after, update)))
        self.subscribers.mark_revision(published.revision)
        if stage := published.stage:
            self.subscribers.mark_revision(
                stage.revision, lambda node: caller_beside(node.node, node.role) in {"", *stage.callers}
            )
        return sequence

    @property
    def revision(self) -> int:
        """The latest revision that changed a rule for all callers: nodes know no later one, unless one is staged."""
        return self._in_force.revision

    def offer(self, nodes: Collection[str], update: rules_pb2.RulesUpdate) -> int:
        """Sends some nodes an update that does not become part of the state; returns its sequence number."""
        update.sequence = self.subscribers.next_generation()
        queued = _Queued(update)
        for feed in self._feeds:
            if feed.node in nodes:
                feed.offered.add(update.sequence)
                feed.put(queued)
            elif not feed.queue and feed.applied >= feed.last_sent:
                feed.has_applied(update.sequence)
        return update.sequence

    def restate(self) -> None:
        """Sends every node the full state again, but for those that keep their own."""
        self.subscribers.next_generation()
        for feed in self._feeds:
            if feed.keeps_own:
                self._begin(feed)
                continue
            self._queue_full(feed)

    async def cut_off(self, nodes: Collection[Subscriber], *, timeout_s: float) -> None:
        """Ends the streams of nodes; see :meth:`Subscribers.cut_off`. A stream begins with the full state."""
        self._feeds.difference_update(nodes)
        await self.subscribers.cut_off(nodes, timeout_s=timeout_s)

    def _remember(self, update: rules_pb2.RulesUpdate) -> None:
        """Adds an update to the state that a new subscriber receives first."""
        self._use_cases.update((each.name, each) for each in update.use_cases)
        self._versions.update((each.routing_key, each) for each in update.model_versions)
        for name in update.removed_use_cases:
            del self._use_cases[name]
        for key in update.removed_routing_keys:
            del self._versions[key]

    def _send(
        self, update: rules_pb2.RulesUpdate, for_caller: Callable[[str], rules_pb2.RulesUpdate | None] = lambda _: None
    ) -> int:
        """Sends nodes an update, or those of one caller what there is for that instead."""
        update.sequence = self.subscribers.next_generation()
        queued_for = cache(lambda gateways: _Queued(update if gateways else _for_resolvers(update)))
        queued_to = cache(lambda caller: (own := for_caller(caller)) and _Queued(own))
        for feed in self._feeds:
            queued = queued_to(feed.caller) or queued_for(feed.with_endpoints)
            if feed.keeps_own:
                self._begin(feed)
            elif _changes_rules(queued.update) or (feed.with_endpoints and _is_for_gateways(queued.update)):
                if feed.counts_from == _NEVER:
                    self._queue_full(feed)
                    continue
                feed.put(queued)
            elif not feed.queue and feed.applied >= feed.last_sent:
                feed.has_applied(update.sequence)  # nothing in it concerns this node
            elif not feed.queue and feed.refused >= feed.last_sent:
                feed.refused = update.sequence  # it still lacks what it refused
        return update.sequence

    def _begin(self, feed: _Feed) -> None:
        """Sends a node the full state, unless there are no rules here and it has some.

        That is so after a control plane has lost its store: what was last published stays in force.
        """
        if feed.keeps_own and not self.revision:
            feed.has_applied(self.subscribers.generation)
            return
        feed.keeps_own = False
        self._queue_full(feed)

    def _queue_full(self, feed: _Feed) -> None:
        """Sends a node the full state, which overrides its own, in the place of what is not under way yet."""
        update = self._full(feed)
        update.withdrawn_revision = _ANY
        feed.queue.clear()
        feed.put(_Queued(update))
        feed.counts_from = update.sequence

    def _full(self, feed: _Feed) -> rules_pb2.RulesUpdate:
        revision, table = self._in_force.of(feed.caller)
        use_cases, versions, staged = self._use_cases, self._versions, self._staged
        if table is not self._in_force.table:
            use_cases = use_cases | {each.name: each for each in staged.use_cases}
            versions = versions | {each.routing_key: each for each in staged.model_versions}
            for name in staged.removed_use_cases:
                del use_cases[name]
            for key in staged.removed_routing_keys:
                del versions[key]
        update = rules_pb2.RulesUpdate(
            sequence=self.subscribers.generation,
            revision=revision,
            full=True,
            use_cases=use_cases.values(),
            model_versions=versions.values(),
            endpoints=self._endpoints.values() if feed.with_endpoints else (),
            tenants=orjson.dumps(self._tenants) if feed.with_endpoints and self._tenants else None,
        )
        if feed.with_endpoints and staged.callers:
            update.staged.CopyFrom(staged)
        return update

    async def serve(
        self, hello: rules_pb2.SubscribeRequest, requests: AsyncIterator[rules_pb2.SubscribeRequest], node: str
    ) -> AsyncIterator[rules_pb2.RulesUpdate]:
        """Serves the node's stream after its first message, until either side ends it.

        Raises:
            LeftBehindError: it refused what others applied. It must drop its rules before it subscribes again.
        """
        feed = _Feed(node, hello.role, with_endpoints=hello.with_endpoints, keeps_own=hello.revision > 0)
        if not self.revision:
            self.latest_seen = max(self.latest_seen, hello.revision)
        self._begin(feed)
        self._feeds.add(feed)
        self.subscribers.add(feed)
        await self.subscribers.notify_progress()
        log.info("%s connected", feed.title)
        reader = asyncio.create_task(self._read(requests, feed))
        try:
            while not reader.done():
                await feed.wake.wait()
                feed.wake.clear()
                if feed.is_cut:
                    raise LeftBehindError(f"left behind: {feed.error}; subscribe again, without the rules from before")
                while feed.queue:
                    queued = feed.queue.popleft()
                    feed.last_sent = queued.update.sequence
                    expect_growth(queued.size, stays=True)  # it is serialised in a moment
                    yield self._seen_by(node, queued.update)
        finally:
            reader.cancel()
            self._feeds.discard(feed)
            await self.subscribers.discard(feed)
            log.info("%s disconnected", feed.title)

    def _seen_by(self, node: str, update: rules_pb2.RulesUpdate) -> rules_pb2.RulesUpdate:
        """The update with the addresses by which a node reaches replicas from its zone."""
        zone = self.zones.zone_of(node)
        if not zone or not update.endpoints:
            return update
        seen = rules_pb2.RulesUpdate()
        seen.CopyFrom(update)
        for each in seen.endpoints:
            each.addresses[:] = self.zones.seen_from(zone, each.addresses)
            each.standby[:] = self.zones.seen_from(zone, each.standby)
        return seen

    async def _read(self, requests: AsyncIterator[rules_pb2.SubscribeRequest], feed: _Feed) -> None:
        try:
            async for request in requests:
                if request.error:
                    feed.refused, feed.error = request.applied_sequence, printable(request.error, MAX_CHARACTERS)
                    if request.applied_sequence in feed.offered:
                        # A refused offer changes nothing: the node is as current as before.
                        feed.has_applied(request.applied_sequence)
                    elif feed.queue:
                        self._queue_full(feed)
                    else:
                        feed.counts_from = _NEVER
                    log.error("%s refused update %d: %s", feed.title, feed.refused, feed.error)
                elif request.applied_sequence < feed.counts_from:
                    feed.refused = request.applied_sequence  # it holds it on top of a state that lacks something
                else:
                    # Updates that do not concern this node were never sent, and count as applied.
                    caught_up = not feed.queue and request.applied_sequence >= feed.last_sent
                    feed.has_applied(self.subscribers.generation if caught_up else request.applied_sequence)
                    feed.error = ""
                await self.subscribers.notify_progress()
        finally:
            feed.wake.set()


def _changes_rules(update: rules_pb2.RulesUpdate) -> bool:
    return bool(update.use_cases or update.removed_use_cases or update.model_versions or update.removed_routing_keys)


def _is_for_gateways(update: rules_pb2.RulesUpdate) -> bool:
    return bool(update.endpoints or update.removed_endpoints or update.HasField("tenants") or update.HasField("staged"))


def _for_resolvers(update: rules_pb2.RulesUpdate) -> rules_pb2.RulesUpdate:
    copy = rules_pb2.RulesUpdate()
    copy.CopyFrom(update)
    copy.ClearField("endpoints")
    copy.ClearField("removed_endpoints")
    copy.ClearField("tenants")
    copy.ClearField("staged")
    return copy


def _for_caller(
    caller: str, before: InForce, after: InForce, sent: rules_pb2.RulesUpdate
) -> rules_pb2.RulesUpdate | None:
    """What changes for a caller's resolver if it has, or had, other rules than those for all; None otherwise."""
    (held, old), (revision, new) = before.of(caller), after.of(caller)
    if old is before.table and new is after.table:
        return None
    update = _changes(old, new)
    _number(update, held, revision)
    update.sequence = sent.sequence
    return update


def _number(update: rules_pb2.RulesUpdate, held: int, revision: int) -> None:
    """Sets the revision of an update for nodes that hold an earlier or a withdrawn one."""
    update.revision, update.withdrawn_revision = revision, held if revision < held else 0


def _changes(before: RouteTable, after: RouteTable) -> rules_pb2.RulesUpdate:
    """What differs in the rules of two tables."""
    change = difference(before, after)
    old, new = (_by_version(table, change.routing_keys) for table in (before, after))
    held = {key: _model_version(key, version) for key, version in old.items()}
    use_cases, its = before.document["use_cases"], after.document["use_cases"]
    return rules_pb2.RulesUpdate(
        use_cases=_use_cases(_changed(change.use_cases, use_cases, its)),
        removed_use_cases=change.use_cases & use_cases.keys() - its.keys(),
        model_versions=[
            message for key, version in new.items() if (message := _model_version(key, version)) != held.get(key)
        ],
        removed_routing_keys=held.keys() - new.keys(),
    )


def _staged(state: InForce) -> rules_pb2.StagedRules:
    """The staged rules, by what differs from those for all; empty if there are none."""
    stage = state.stage
    if stage is None:
        return rules_pb2.StagedRules()
    update = _changes(state.table, stage.table)
    return rules_pb2.StagedRules(
        callers=sorted(stage.callers),
        revision=stage.revision,
        use_cases=update.use_cases,
        removed_use_cases=update.removed_use_cases,
        model_versions=update.model_versions,
        removed_routing_keys=update.removed_routing_keys,
    )


def _changed(names: Iterable[str], before: Mapping[str, T], after: Mapping[str, T]) -> dict[str, T]:
    return {name: after[name] for name in names if name in after and not same(before.get(name), after[name])}


def _use_cases(documents: Mapping[str, Any]) -> list[rules_pb2.UseCaseRules]:
    return [rules_pb2.UseCaseRules(name=name, document=orjson.dumps(document)) for name, document in documents.items()]


def whole_update(revision: int, table: RouteTable) -> rules_pb2.RulesUpdate:
    """All rules of a table as one update, for nodes that hold none."""
    return rules_pb2.RulesUpdate(
        revision=revision,
        use_cases=_use_cases(table.document["use_cases"]),
        model_versions=[_model_version(key, version) for key, version in _by_version(table, table.versions).items()],
    )


def _by_version(table: RouteTable, keys: Iterable[str]) -> dict[str, ModelVersion]:
    """Routing key without shard → one of its shards. If their number changes, all of them have changed."""
    return {version_key(key): table.versions[key] for key in keys if key in table.versions}


def _model_version(key: str, version: ModelVersion) -> rules_pb2.ModelVersion:
    """What routers need; the cluster is not among it, so that they do not notice when a shard moves."""
    shards = version.shards
    return rules_pb2.ModelVersion(
        routing_key=key,
        model=version.model,
        version=version.version,
        parameters=orjson.dumps(version.parameters),
        shards=shards.count if shards else 0,
        tenants=shards.tenants if shards else {},
    )
