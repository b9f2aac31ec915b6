"""Published rules at a resolver or gateway: the rule set in force, and the subscription that updates it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc.aio

from lab.errors import RouteTableError
from lab.routing.compiled import Choice, Router, Version
from lab.routing.keys import version_key
from lab.routing.limits import Limit, limits_of
from lab.routing.rules import policies as policies_of
from lab.routing.shards import Shards
from lab.transport import expose, open_channel
from lab.transport.memory_guard import expecting_growth
from models.proto.control.v1 import rules_pb2, rules_pb2_grpc
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from lab.routing.resilience import Policy
    from lab.routing.rules import UseCase

T = TypeVar("T")

_RECONNECT_PAUSE_S = 0.2
_BEAT_S = 0.25
# A publish waits 5 s for a node, and a connection ends after half a minute of silence: from then on, publishes succeed
# without this process.
_STOPPED_S, _GIVEN_UP_S = 3.0, 20.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Staged:
    """Rules that are staged for some callers."""

    callers: frozenset[str]
    router: Router


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A subscriber's state. All fields but the router are empty unless the subscriber asks for endpoints.

    Attributes:
        router: decides where requests go.
        staged: decides in its place for some callers; None if no rules are staged.
        endpoints: by routing key, ``host:port`` of each replica.
        standby: by routing key, ``host:port`` of each replica of the failover cluster.
        clusters: by routing key, the model cluster and its failover cluster.
        policies: by routing key without shard, resilience settings.
        limits: by tenant.
    """

    router: Router = field(default_factory=Router.empty)
    endpoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    standby: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    clusters: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    staged: Staged | None = None

    @property
    def use_cases(self) -> Mapping[str, UseCase]:
        """By name, for all callers; and those that only callers of the stage have."""
        return {**self.staged.router.use_cases, **self.router.use_cases} if self.staged else self.router.use_cases

    def router_of(self, caller: str) -> Router:
        """What decides for a caller, which must be a verified one."""
        return self.staged.router if self.staged and caller in self.staged.callers else self.router

    def updated(self, update: rules_pb2.RulesUpdate) -> RuleSet:
        """A copy with an update applied.

        Raises:
            RouteTableError: the update cannot be applied.
        """
        router = _updated(self.router, update, full=update.full)
        staged = None if update.full else self.staged
        if update.HasField("staged"):
            callers = frozenset(update.staged.callers)
            staged = Staged(callers, _updated(router, update.staged)) if callers else None
        routers = (router, staged.router) if staged else (router,)
        limits = {} if update.full else self.limits
        if update.HasField("tenants"):
            limits = limits_of(_json_object("tenants", update.tenants))
        policies = self.policies
        if update.full or update.use_cases or update.removed_use_cases or update.HasField("staged"):
            policies = policies_of(use_case for each in reversed(routers) for use_case in each.use_cases.values())
        known = router.versions.keys() | staged.router.versions.keys() if staged else router.versions
        return RuleSet(
            router,
            self._updated_endpoints(update, known),
            self._updated_standby(update),
            self._updated_clusters(update, known),
            policies,
            limits,
            staged,
        )

    def _updated_standby(self, update: rules_pb2.RulesUpdate) -> dict[str, tuple[str, ...]]:
        changed = {each.routing_key for each in update.endpoints}.union(update.removed_endpoints)
        kept = {} if update.full else {key: its for key, its in self.standby.items() if key not in changed}
        return kept | {each.routing_key: tuple(each.standby) for each in update.endpoints if each.standby}

    def _updated_clusters(self, update: rules_pb2.RulesUpdate, known: Container[str]) -> dict[str, tuple[str, str]]:
        kept = {key: its for key, its in self.clusters.items() if version_key(key) in known}
        return kept | {each.routing_key: (each.cluster, each.failover) for each in update.endpoints}

    def _updated_endpoints(self, update: rules_pb2.RulesUpdate, known: Container[str]) -> dict[str, tuple[str, ...]]:
        given = {each.routing_key: tuple(each.addresses) for each in update.endpoints}
        if not update.full:
            kept = {key: addresses for key, addresses in self.endpoints.items() if key not in update.removed_endpoints}
            return kept | given
        # A control plane that was just restarted does not know the replicas yet. For a key without any, the last known
        # ones are kept: if they are gone, requests fail as they would without them.
        return given | {
            key: last for key, last in self.endpoints.items() if not given.get(key) and version_key(key) in known
        }


def _updated(router: Router, update: rules_pb2.RulesUpdate | rules_pb2.StagedRules, *, full: bool = False) -> Router:
    """A router with the rules of an update.

    Raises:
        RouteTableError: they cannot be applied.
    """
    versions = {
        each.routing_key: Version(
            each.model,
            each.version,
            _json_object(each.routing_key, each.parameters),
            Shards(each.shards, dict(each.tenants)) if each.shards else None,
        )
        for each in update.model_versions
    }
    return router.updated(
        revision=update.revision,
        full=full,
        use_cases={each.name: _json_object(each.name, each.document) for each in update.use_cases},
        removed_use_cases=update.removed_use_cases,
        versions=versions,
        removed_versions=update.removed_routing_keys,
    )


class DecisionCache(Generic[T]):
    """Decisions of one revision, built once for all requests with the same choice.

    Args:
        router: of the revision.
        build: makes a decision from a choice; must not depend on the choice's bucket.
    """

    def __init__(self, router: Router, build: Callable[[Choice], T]) -> None:
        self._resolve = router.resolve
        self._build = build
        self._built: dict[tuple[object, ...], T] = {}
        self.revision = router.revision

    def __len__(self) -> int:
        return len(self._built)

    def look_up(self, use_case: str, context: Mapping[str, str]) -> T:
        """The decision for a request.

        Raises:
            UnknownUseCaseError: no such use case.
            CallerNotAllowedError: the context's caller may not ask for the use case, or may not pin requests.
            UnknownVersionError: the request is pinned to a model version that does not exist.
        """
        choice = self._resolve(use_case, context)
        # Alternatives and shadow may be other shards for another user or tenant.
        key = (use_case, choice.rule, choice.share, choice.routing_key, choice.shadow, *map(id, choice.alternatives))
        built = self._built.get(key)
        if built is None:
            built = self._built[key] = self._build(choice)
        return built


class StagedDecisions(DecisionCache[T]):
    """Decisions of two revisions: one for the callers of a stage, and one for all others."""

    def __init__(self, rules: RuleSet, staged: Staged, build: Callable[[Choice], T]) -> None:
        super().__init__(rules.router, build)
        self._for_others = super().look_up
        self._callers, self._staged = staged.callers, DecisionCache(staged.router, build)

    def __len__(self) -> int:
        return super().__len__() + len(self._staged)

    def look_up(self, use_case: str, context: Mapping[str, str]) -> T:
        """See :meth:`DecisionCache.look_up`; the context's caller must be a verified one."""
        decide = self._staged.look_up if context.get("caller") in self._callers else self._for_others
        return decide(use_case, context)


def decisions_of(rules: RuleSet, build: Callable[[Choice], T]) -> DecisionCache[T]:
    """The decisions of a rule set; without a stage, they cost no look at the caller."""
    return StagedDecisions(rules, rules.staged, build) if rules.staged else DecisionCache(rules.router, build)


def model_config(choice: Choice | Version) -> serving_pb2.ModelConfig:
    """The model's configuration, for the request's body."""
    message = serving_pb2.ModelConfig(model=choice.model, version=choice.version)
    message.parameters.update(dict(choice.parameters))
    return message


class Subscriber:
    """Follows the control plane's rules; while it cannot be reached, the last rules stay in force.

    If the control plane ends the stream because a publish left this process behind, no rules are in force until it has
    applied the present ones. See ``docs/decisions/0026``. If this process was stopped, what has come meanwhile may have
    been withdrawn: it subscribes again, and if it may have been given up, has no rules until then.

    Args:
        node: this process's name.
        role: its role, e.g. ``resolver``.
        control_plane: ``host:port``; several with commas, if they serve the same rules.
        apply: puts a rule set in force, completely or not at all; raises to refuse it.
        with_endpoints: whether to follow endpoints, policies and limits, too.
    """

    def __init__(
        self,
        *,
        node: str,
        role: str,
        control_plane: str,
        apply: Callable[[RuleSet], Awaitable[None]],
        with_endpoints: bool = False,
    ) -> None:
        self._hello = rules_pb2.SubscribeRequest(node=node, role=role, with_endpoints=with_endpoints)
        self._control_plane = control_plane
        self._apply = apply
        self._in_force = RuleSet()
        self._beat_at, self._stopped_s = time.monotonic(), 0.0
        self._following: asyncio.Task[tuple[grpc.StatusCode, str]] | None = None
        self._is_applying = False
        expose("lab_revision", "Revision of the rules in force.", lambda: self._in_force.router.revision)

    async def run(self) -> None:
        """Subscribes, and resubscribes when the stream is lost, until cancelled."""
        addresses = self._control_plane.split(",")
        self._beat_at = time.monotonic()
        beats = asyncio.create_task(self._beat())
        try:
            await self._follow_all(addresses)
        finally:
            beats.cancel()

    async def _follow_all(self, addresses: Sequence[str]) -> None:
        async with open_channel(*addresses, peer="control-plane", keepalive=True) as channel:
            stub = rules_pb2_grpc.RulesStub(channel)
            while True:
                code, reason = await self._follow_once(stub)
                if stopped_s := self._stopped_s:
                    self._stopped_s = 0.0
                    _log.warning("this process was stopped for %.1f s: it subscribes again", stopped_s)
                    if stopped_s > _GIVEN_UP_S:
                        await self._drop_rules()
                    continue
                if code is grpc.StatusCode.FAILED_PRECONDITION:
                    await self._drop_rules()
                revision = self._in_force.router.revision
                _log.warning(
                    "control plane %s lost, revision %d stays in force: %s", self._control_plane, revision, reason
                )
                await asyncio.sleep(_RECONNECT_PAUSE_S)

    async def _follow_once(self, stub: rules_pb2_grpc.RulesAsyncStub) -> tuple[grpc.StatusCode, str]:
        """Follows one stream until it ends, or this process notices that it was stopped."""
        self._following = asyncio.create_task(self._follow(stub))
        try:
            await asyncio.wait({self._following})
        finally:
            self._following.cancel()
        return (grpc.StatusCode.CANCELLED, "") if self._following.cancelled() else self._following.result()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            self._notice_stop()
            # Not the stream: a write that waits for its beginning would wait for ever.
            if self._stopped_s and self._following is not None:
                self._following.cancel()

    def _notice_stop(self) -> None:
        """Notices that the event loop has not run for seconds: the stream has old updates, and is to end."""
        now = time.monotonic()
        if now - self._beat_at > _STOPPED_S and not self._is_applying:
            self._stopped_s = now - self._beat_at
        self._beat_at = now

    async def _drop_rules(self) -> None:
        """Ends all rules in force, so that no decision comes from them; a failure ends the process."""
        await self._apply(RuleSet())
        self._in_force = RuleSet()

    async def _follow(self, stub: rules_pb2_grpc.RulesAsyncStub) -> tuple[grpc.StatusCode, str]:
        """Follows one stream; returns its status, and why it ended."""
        stream = stub.Subscribe(wait_for_ready=True)
        try:
            self._hello.revision = self._in_force.router.revision
            await stream.write(self._hello)
            reached, is_first = False, True
            async for update in stream:
                self._notice_stop()
                if self._stopped_s:
                    break
                if not reached:
                    _log.info("control plane %s reached", self._control_plane)
                    reached = True
                self._is_applying = True  # which keeps the event loop for long if the table is large
                error = await self._put_in_force(update, is_first=is_first)
                self._is_applying, self._beat_at = False, time.monotonic()
                is_first = is_first and bool(error)
                await stream.write(rules_pb2.SubscribeRequest(applied_sequence=update.sequence, error=error))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # it may have ended while an update was applied
        finally:
            self._is_applying = False
            stream.cancel()
        code = await stream.code()
        return code, await stream.details() or ("it closed the stream" if code is grpc.StatusCode.OK else code.name)

    async def _put_in_force(self, update: rules_pb2.RulesUpdate, *, is_first: bool) -> str:
        """Applies an update. Returns why it is refused, empty if it is applied.

        Within a stream, revisions only grow, unless one is withdrawn. A stream's first update replaces everything:
        the control plane may have been stopped in the middle of a publish. If it is refused, nothing is applied that
        builds on it.
        """
        before = self._in_force
        try:
            if is_first:
                _check_full(update)
            else:
                _check_age(update, before.router.revision)
            with expecting_growth(update.ByteSize()):
                after = before.updated(update)
                await self._apply(after)
        except Exception as error:  # noqa: BLE001 (no update may end the subscription)
            reason = str(error) or type(error).__name__
            _log.warning("revision %d refused (update %d): %s", update.revision, update.sequence, reason)
            return reason
        self._in_force = after
        if after.router.revision != before.router.revision:
            _log.info("revision %d in force, %d before", after.router.revision, before.router.revision)
        return ""


def _check_full(update: rules_pb2.RulesUpdate) -> None:
    if not update.full:
        raise RouteTableError("only changes have come since the state that they build on was refused")


def _check_age(update: rules_pb2.RulesUpdate, in_force: int) -> None:
    if update.revision < in_force and update.withdrawn_revision < in_force:
        raise RouteTableError(
            f"revision {update.revision} is older than {in_force}, which is in force and has not been withdrawn"
        )


def _json_object(name: str, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text or b"{}")
    except ValueError as error:
        raise RouteTableError(f"is not JSON: {error}", field=name) from None
    if not isinstance(value, dict):
        raise RouteTableError(f"is not a JSON object but {type(value).__name__}", field=name)
    return value


async def run_beside(stop: asyncio.Event, subscriber: Subscriber) -> None:
    """Runs the subscriber until ``stop`` is set; raises its error if it fails before."""
    following = asyncio.create_task(subscriber.run())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
    finally:
        for task in (following, stopped):
            task.cancel()
        await asyncio.gather(following, stopped, return_exceptions=True)
