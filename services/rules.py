"""Published rules as a resolver or a gateway holds them: what is in force, and the subscription that keeps it so."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc.aio

from lab.errors import RouteTableError
from lab.routing.compiled import Router, Version
from lab.routing.limits import limits_of
from lab.routing.rules import policies as policies_of
from lab.transport import Security, open_channel
from models.proto.control.v1 import rules_pb2, rules_pb2_grpc
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from lab.routing.compiled import Alternative, Choice
    from lab.routing.limits import Limit
    from lab.routing.resilience import Policy

T = TypeVar("T")

_RECONNECT_PAUSE_S = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Everything that a subscriber knows.

    Attributes:
        router: decides.
        endpoints: by routing key, ``host:port`` of each replica; empty unless they were asked for.
        standby: by routing key, of each replica that stands in while none of the others can answer; likewise.
        clusters: by routing key, whose these are: the model cluster, and the one that stands in; likewise.
        policies: by routing key, what is done about replicas that fail; likewise.
        limits: of tenants, likewise.
    """

    router: Router = field(default_factory=Router.empty)
    endpoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    standby: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    clusters: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)

    def updated(self, update: rules_pb2.RulesUpdate) -> RuleSet:
        """A rule set with these changes; this one stays as it is.

        Raises:
            RouteTableError: the update cannot be carried out.
        """
        versions = {
            each.routing_key: Version(each.model, each.version, _json_object(each.routing_key, each.parameters))
            for each in update.model_versions
        }
        router = self.router.updated(
            revision=update.revision,
            full=update.full,
            use_cases={each.name: _json_object(each.name, each.document) for each in update.use_cases},
            removed_use_cases=update.removed_use_cases,
            versions=versions,
            removed_versions=update.removed_routing_keys,
        )
        limits = {} if update.full else self.limits
        if update.HasField("tenants"):
            limits = limits_of(_json_object("tenants", update.tenants))
        changes_policies = update.full or update.use_cases or update.removed_use_cases
        policies = policies_of(router.use_cases.values()) if changes_policies else self.policies
        return RuleSet(
            router,
            self._updated_endpoints(update, router),
            self._updated_standby(update),
            self._updated_clusters(update, router),
            policies,
            limits,
        )

    def _updated_standby(self, update: rules_pb2.RulesUpdate) -> dict[str, tuple[str, ...]]:
        told = {each.routing_key for each in update.endpoints}.union(update.removed_endpoints)
        kept = {} if update.full else {key: its for key, its in self.standby.items() if key not in told}
        return kept | {each.routing_key: tuple(each.standby) for each in update.endpoints if each.standby}

    def _updated_clusters(self, update: rules_pb2.RulesUpdate, router: Router) -> dict[str, tuple[str, str]]:
        kept = {key: its for key, its in self.clusters.items() if key in router.versions}
        return kept | {each.routing_key: (each.cluster, each.failover) for each in update.endpoints}

    def _updated_endpoints(self, update: rules_pb2.RulesUpdate, router: Router) -> dict[str, tuple[str, ...]]:
        given = {each.routing_key: tuple(each.addresses) for each in update.endpoints}
        if not update.full:
            kept = {key: addresses for key, addresses in self.endpoints.items() if key not in update.removed_endpoints}
            return kept | given
        # A control plane that has just come back does not know the replicas yet. Of a key that it names without any,
        # the last ones known are the best guess; if they are gone, a request fails as it would without them.
        missing = (key for key in router.versions if not given.get(key))
        return given | {key: self.endpoints[key] for key in missing if key in self.endpoints}


class DecisionCache(Generic[T]):
    """What choices of one revision lead to, built once for all requests that share it.

    Args:
        router: decides.
        build: makes what a choice leads to; must not depend on the choice's bucket.
    """

    def __init__(self, router: Router, build: Callable[[Choice], T]) -> None:
        self._resolve = router.resolve
        self._build = build
        self._built: dict[tuple[str, str, str, str], T] = {}
        self.revision = router.revision

    def look_up(self, use_case: str, context: Mapping[str, str]) -> T:
        """What this request leads to.

        Raises:
            UnknownUseCaseError: no such use case.
            CallerNotAllowedError: the context's caller may not ask for it, or may not pin a request.
            UnknownVersionError: the request is pinned to a model version that there is not.
        """
        choice = self._resolve(use_case, context)
        key = (use_case, choice.rule, choice.share, choice.routing_key)
        built = self._built.get(key)
        if built is None:
            built = self._built[key] = self._build(choice)
        return built


def model_config(choice: Choice | Alternative) -> serving_pb2.ModelConfig:
    """What the model needs in the request's body."""
    message = serving_pb2.ModelConfig(model=choice.model, version=choice.version)
    message.parameters.update(dict(choice.parameters))
    return message


class Subscriber:
    """Follows the control plane for as long as the process lives, and serves what it said last while it is away.

    Args:
        node: this process's name.
        role: its role, e.g. ``resolver``.
        control_plane: ``host:port``; of several that serve the same rules all, with commas between.
        apply: puts a rule set in force, wholly or not at all, and returns once it is; raises to refuse it.
        with_endpoints: also follow where each routing key's replicas are.
        security: credentials; this process's own by default.
    """

    def __init__(
        self,
        *,
        node: str,
        role: str,
        control_plane: str,
        apply: Callable[[RuleSet], Awaitable[None]],
        with_endpoints: bool = False,
        security: Security | None = None,
    ) -> None:
        self._hello = rules_pb2.SubscribeRequest(node=node, role=role, with_endpoints=with_endpoints)
        self._control_plane = control_plane
        self._apply = apply
        self._security = security
        self._in_force = RuleSet()

    async def run(self) -> None:
        """Subscribes again and again until cancelled."""
        async with open_channel(
            *self._control_plane.split(","), security=self._security, peer="control-plane", keepalive=True
        ) as channel:
            stub = rules_pb2_grpc.RulesStub(channel)
            while True:
                try:
                    await self._follow(stub)
                    reason = "it closed the stream"
                except grpc.aio.AioRpcError as error:
                    reason = error.details() or error.code().name
                except asyncio.InvalidStateError:
                    reason = "the stream ended while an update was applied"
                revision = self._in_force.router.revision
                _log.warning("control plane %s lost, revision %d serves on: %s", self._control_plane, revision, reason)
                await asyncio.sleep(_RECONNECT_PAUSE_S)

    async def _follow(self, stub: rules_pb2_grpc.RulesAsyncStub) -> None:
        stream = stub.Subscribe(wait_for_ready=True)
        try:
            await stream.write(self._hello)
            reached, is_first = False, True
            async for update in stream:
                if not reached:
                    _log.info("control plane %s reached", self._control_plane)
                    reached = True
                error = await self._put_in_force(update, is_first=is_first)
                is_first = False
                await stream.write(rules_pb2.SubscribeRequest(applied_sequence=update.sequence, error=error))
        finally:
            stream.cancel()

    async def _put_in_force(self, update: rules_pb2.RulesUpdate, *, is_first: bool) -> str:
        """Applies an update. Returns why it was refused, empty if it was not.

        Within a stream revisions grow, or are withdrawn. What comes first is what the control plane holds, whatever
        this process knows: it may have stopped in the midst of a publish.
        """
        before = self._in_force
        try:
            if not is_first:
                _check_age(update, before.router.revision)
            after = before.updated(update)
            await self._apply(after)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with an update, the subscription must outlive it)
            reason = str(error) or type(error).__name__
            _log.warning("revision %d refused (update %d): %s", update.revision, update.sequence, reason)
            return reason
        self._in_force = after
        if after.router.revision != before.router.revision:
            _log.info("revision %d in force, %d before", after.router.revision, before.router.revision)
        return ""


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
    """Follows the control plane until ``stop`` is set; should following itself end, its error is raised."""
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
