"""The resolver's RPCs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from lab.errors import CallerNotAllowedError, UnknownUseCaseError, UnknownVersionError
from lab.plain_text import printable, require_plain
from lab.routing import headers
from lab.routing.compiled import Choice, Router
from lab.transport import expose, proved_caller
from models.context import read_context
from models.proto.control.v1 import resolver_pb2, resolver_pb2_grpc
from services.resolver.journal import Journal
from services.resolver.watchers import WatcherLateError, Watchers
from services.rules import DecisionCache, RuleSet, model_config

if TYPE_CHECKING:
    from lab.routing.resilience import Policy

    _ResolveContext = grpc.aio.ServicerContext[resolver_pb2.ResolveRequest, resolver_pb2.Decision]
    _WatchContext = grpc.aio.ServicerContext[resolver_pb2.WatchRequest, resolver_pb2.WatchResponse]


_SHOWN = 60  # characters of a name that may be anything
# Most requests leave no line in the access log: they use a lease, or share another request's call.
LOG_FIELDS = ("request_id", "use_case", "caller", "rule", "routing_key", "revision", "status", "ms")
RESOLVE = "/control.v1.Resolver/Resolve"


class Resolver(resolver_pb2_grpc.ResolverServicer):
    """Answers from memory, without asking another process.

    Args:
        name: this resolver's, for messages.
        owner: caller that it runs beside and resolves for; None where callers share it, and requests name theirs.
        lease_ttl_s: for how long a decision may be reused, seconds.
        max_stale_s: the same while this resolver cannot be reached, seconds.

    Attributes:
        journal: the questions that it was asked.
    """

    def __init__(self, *, name: str, owner: str | None, lease_ttl_s: float, max_stale_s: float) -> None:
        self.journal = Journal()
        self._name = name
        self._owner = owner
        self._ttl, self._max_stale = _duration(lease_ttl_s), _duration(max_stale_s)
        self._decisions = DecisionCache(Router.empty(), self._build)
        self._watchers = Watchers()
        expose("lab_decisions_kept", "Different decisions of this revision.", lambda: len(self._decisions))
        expose("lab_lease_holders", "Clients that watch for revisions, and may hold leases.", self._watchers.__len__)

    async def put_in_force(self, rules: RuleSet) -> None:
        """Answers by these rules from now on; returns once no watching client can use an older decision."""
        before = self._decisions.revision
        self._decisions = DecisionCache(rules.router, self._build)
        if rules.router.revision != before:
            await self._watchers.announce(rules.router.revision)

    async def Resolve(self, request: resolver_pb2.ResolveRequest, context: _ResolveContext) -> resolver_pb2.Decision:
        """Decides where a request goes."""
        self.journal.asked(context.invocation_metadata() or ())
        decisions = self._decisions
        if not decisions.revision:
            reason = f"use case {request.use_case!r}: resolver {self._name} has no rules yet"
            await context.abort(grpc.StatusCode.UNAVAILABLE, reason)
        try:
            require_plain("use_case", request.use_case)
            fields = read_context(request.context)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{printable(request.use_case, _SHOWN)}: {error}")
        if reason := self._why_not(fields, proved_caller(context)):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"use case {request.use_case!r}: {reason}")
        try:
            return decisions.look_up(request.use_case, fields)
        except (UnknownUseCaseError, UnknownVersionError) as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except CallerNotAllowedError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))

    async def Watch(
        self, request_iterator: AsyncIterator[resolver_pb2.WatchRequest], context: _WatchContext
    ) -> AsyncIterator[resolver_pb2.WatchResponse]:
        """Announces each new revision, which ends the leases of earlier ones."""
        if reason := self._why_not({}, proved_caller(context)):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
        try:
            async for response in self._watchers.serve(request_iterator):
                yield response
        except WatcherLateError as error:
            await context.abort(grpc.StatusCode.ABORTED, str(error))

    def _why_not(self, fields: dict[str, str], proved: str) -> str:
        """Why a request in this caller's name is refused; empty if it is not. A missing name is filled in."""
        if self._owner is not None and proved not in ("", self._owner):
            return f"resolver {self._name} is for caller {self._owner} only; you are {proved}"
        caller = self._owner or proved
        if not caller or fields.setdefault("caller", caller) == caller:
            return ""
        if self._owner:
            return f"resolver {self._name} is for caller {caller} only, not for {fields['caller']!r}"
        return f"you are {proved}, and may not ask as caller {fields['caller']!r}"

    def close(self) -> None:
        """Ends the watchers' streams, which would never end otherwise."""
        self._watchers.close()

    def _build(self, choice: Choice) -> resolver_pb2.Decision:
        return resolver_pb2.Decision(
            routing_key=choice.routing_key,
            model_config=model_config(choice),
            lease=resolver_pb2.Lease(reads=choice.reads, ttl=self._ttl, max_stale=self._max_stale),
            revision=choice.revision,
            timeout=_duration(choice.timeout_s),
            rule=choice.rule,
            alternatives=[
                resolver_pb2.Alternative(routing_key=each.routing_key, model_config=model_config(each))
                for each in choice.alternatives
            ],
            shadow=(
                resolver_pb2.Shadow(routing_key=choice.shadow.routing_key, percent=choice.shadow.percent)
                if choice.shadow
                else None
            ),
            falls_back=choice.falls_back,
            headers=[resolver_pb2.Header(name=name, value=value) for name, value in _headers(choice.policy)],
            repeats=choice.policy.repeats if choice.policy is not None else 0,
        )


def described(
    sent: Mapping[str, str], request: resolver_pb2.ResolveRequest, decision: resolver_pb2.Decision | None
) -> tuple[object, ...]:
    """Values of the access log's fields before ``status``; ``sent`` are the request's headers."""
    answer = decision or resolver_pb2.Decision()
    question = (sent.get(headers.REQUEST_ID, ""), request.use_case, request.context.caller)
    return (*question, answer.rule, answer.routing_key, answer.revision)


def _headers(policy: Policy | None) -> Iterator[tuple[str, str]]:
    """Headers for an Envoy that each request carries."""
    if policy is not None and policy.retries is not None and policy.retries.per_try_s:
        yield headers.PER_TRY, _milliseconds(policy.retries.per_try_s)
    if policy is not None and policy.hedge is not None:
        yield headers.HEDGE, _milliseconds(policy.hedge.after_s)


def _milliseconds(seconds: float) -> str:
    """Whole milliseconds, which is all that Envoy takes; at least one, as 0 means no limit to it."""
    return str(max(1, round(seconds * 1_000)))


def _duration(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message
