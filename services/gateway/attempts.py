"""One request on its way through a gateway: who is tried, and what the caller is told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.client import headers
from lab.client.status import ENDS_IN_DEFAULT, FALLS_BACK
from lab.routing.buckets import is_shadowed
from lab.routing.keys import HEADER, SHADOW_HEADER
from services.rules import model_config

if TYPE_CHECKING:
    import grpc
    import grpc.aio

    from lab.routing.compiled import Alternative, Choice, Shadow
    from models.proto.serving.v1 import serving_pb2
    from services.gateway.pool import Backend, Lane
    from services.gateway.replicas import Replicas
    from services.gateway.tenant_quota import TenantQuota

    Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A model version that is to answer.

    Attributes:
        to_model: headers on the way to the model.
        told: what the caller is told about it.
    """

    key: str
    model_config: serving_pb2.ModelConfig
    to_model: Metadata
    told: Metadata

    @classmethod
    def of(cls, version: Choice | Alternative, revision: int) -> Target:
        """What all requests that go there have in common."""
        key = (HEADER, version.routing_key)
        return cls(version.routing_key, model_config(version), (key,), (key, (headers.REVISION, str(revision))))


@dataclass(frozen=True, slots=True)
class Route:
    """What all requests with one choice have in common.

    Attributes:
        targets: in the order in which they are tried.
        falls_back: whether the caller's default answer is at the end of them.
    """

    revision: int
    timeout_s: float
    targets: tuple[Target, ...]
    falls_back: bool
    shadow: Shadow | None

    @classmethod
    def of(cls, choice: Choice) -> Route:
        """The route that a choice leads to."""
        revision = choice.revision
        first, others = Target.of(choice, revision), [Target.of(each, revision) for each in choice.alternatives]
        return cls(revision, choice.timeout_s, (first, *others), choice.falls_back, choice.shadow)


class FailedError(Exception):
    """The request ends here, with this status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class Passage:
    """Made once a request, so it holds what is needed and nothing else.

    Attributes:
        began: when it came, as by :func:`time.perf_counter`.
        request: what the gateway has read of it; at least the envelope.
        payload: what it has not read, and what stands before that on the way to the model; empty if it has read all.
        route: None as long as nothing is decided, and after a tear.
        revision: under which it was last decided, 0 if never.
        target: to whom of its targets it is sent next, or was sent last; None if it has never been decided.
        attempts: how often it was sent to a model.
        tried: replicas of this version that it is not to go to again, if there are others.
        shadow: routing key of the shadow that gets a copy; empty if none.
        torn: whether there has been a tear.
        quota: its tenant's, which it must leave; None until it is let in.
    """

    __slots__ = (
        *("quota", "attempts", "began", "context", "envelope", "payload", "request", "request_id", "revision"),
        *("route", "shadow", "target", "torn", "tried", "_attempts_before", "_failed", "_place", "_repeats_at"),
    )

    def __init__(
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any], request_id: str, payload: bytes
    ) -> None:
        self.began = time.perf_counter()
        self.request = request
        self.payload = payload
        self.context = context
        self.envelope = request.envelope
        self.request_id = request_id
        self.route: Route | None = None
        self.target: Target | None = None
        self.revision = self.attempts = 0
        self.shadow = ""
        self.torn = False
        self.tried: tuple[Lane, ...] = ()
        self.quota: TenantQuota | None = None
        self._failed = ""
        self._place = self._attempts_before = 0
        self._repeats_at: Backend | Replicas | None = None

    def decided(self, route: Route) -> Target:
        """It goes this way, first to the version that was chosen."""
        self.route, self.target, self._place = route, route.targets[0], 0
        self.revision, self.tried, self._attempts_before = route.revision, (), self.attempts
        return self.target

    @property
    def attempts_here(self) -> int:
        """How often it was sent to this version since that was last chosen."""
        return self.attempts - self._attempts_before

    def begins_repeat(self, backend: Backend | Replicas, lane: Lane) -> None:
        """It is sent to the same version again, which ``backend`` has allowed, and not to ``lane`` if possible."""
        self._repeats_at = backend
        self.tried += (lane,)

    def end_repeat(self) -> None:
        """What the backend has allowed is over."""
        if self._repeats_at is not None:
            self._repeats_at.end_repeat()
            self._repeats_at = None

    def tear(self) -> None:
        """Header and body were at odds: a new decision is needed."""
        self.route, self.torn = None, True

    def draw_shadow(self, route: Route) -> bool:
        """Whether a copy is to be sent, which only the first attempt asks."""
        shadow = route.shadow
        if shadow is None or self.attempts or not is_shadowed(self.envelope.use_case, self.request_id, shadow.percent):
            return False
        self.shadow = shadow.routing_key
        return True

    def timeout_s(self, route: Route) -> float:
        """What is left: of the use case's timeout, or of the caller's patience if that is less."""
        mine = route.timeout_s - (time.perf_counter() - self.began)
        callers: float | None = self.context.time_remaining()
        return max(0.0, mine if callers is None else min(mine, callers))

    def fall_back(self, route: Route, target: Target, code: grpc.StatusCode, details: str) -> Target:
        """Who is tried next.

        Raises:
            FailedError: nobody, because this failure is no reason to, there is nobody left, or no time.
        """
        place = self._place + 1
        if code not in FALLS_BACK or place == len(route.targets) or not self.timeout_s(route):
            raise FailedError(code, details + self._failed)
        self._failed += f"; before that {target.key}: {code.name}"
        self._place, self.tried, self._attempts_before = place, (), self.attempts
        self.target = route.targets[place]
        return self.target

    def told(self, failure: grpc.StatusCode | None = None) -> Metadata:
        """What the caller is told about the decision, so far as there was one, and if it failed."""
        target = self.target
        if target is None:
            return ()
        told = target.told
        if self.attempts != 1:
            told += ((headers.ATTEMPTS, str(self.attempts)),)
        if self.shadow:
            told += ((SHADOW_HEADER, self.shadow),)
        if failure in ENDS_IN_DEFAULT and self.route is not None and self.route.falls_back:
            told += ((headers.SOURCE, headers.DEFAULT),)
        elif self._place:
            told += ((headers.SOURCE, headers.FALLBACK),)
        return told
