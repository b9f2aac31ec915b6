"""Authorization: which identities may call which services of a server, and how large a request's headers may be."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.identity import OWNER, TRUST_DOMAIN
from lab.transport.handlers import MALFORMED, WrapsHandlers, kind_of, tolerant, with_behaviour
from lab.transport.security import Security, is_operator, peer_identity

if TYPE_CHECKING:
    from lab.transport.rpc_logs import Audited

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    Headers = Iterable[tuple[str, str | bytes]]
    Refusal = tuple[grpc.StatusCode, str]

MAX_HEADER_BYTES = 16 * 1024
"""Limit for all headers of a request together. gRPC's own limit does not hold for headers that a client splits over
several frames (tried with 100 KB against 16, by raw HTTP/2)."""

_DENIED, _TOO_MUCH = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED
_MALFORMED = grpc.StatusCode.INVALID_ARGUMENT


def roles_in(text: str) -> tuple[str, ...]:
    """The roles in a command line's option, which has commas between them."""
    return tuple(role for role in text.split(",") if role)


class Guard(WrapsHandlers):
    """Refuses calls by identity, by size of headers, and of bytes that are not a message of the method.

    Args:
        admits: full name of a service, or path of one of its methods, → roles that may call it. Services that are not
            named, such as health, are open to every unit of the lab; the operator may call all. None in plaintext,
            where no identity is proved.
        audit: records refusals, if there is one.
    """

    def __init__(self, admits: Mapping[str, Collection[str]] | None, audit: Audited | None = None) -> None:
        super().__init__()
        self._admits, self._audit = admits, audit

    def refusal(self, method: str, context: Context, headers: Headers) -> Refusal | None:
        """Status and reason why a call is refused; None if it is not.

        Args:
            method: path of the RPC.
            context: of the call.
            headers: names and values.
        """
        service = _service_of(method)
        denied = "" if self._admits is None else _why_denied(method, context, self._admits)
        if denied and self._audit is not None:
            self._audit.refused(method, context, _DENIED, denied)
        return (_DENIED, denied) if denied else _too_much(service, headers)

    def wrap(self, method: str, handler: Handler) -> Handler:
        """The handler, behind the checks."""
        malformed = _MALFORMED, f"{_service_of(method)}: the bytes are not a message of {method.rpartition('/')[2]}"
        return _guarded(
            handler, lambda context: self.refusal(method, context, context.invocation_metadata() or ()), malformed
        )


def guard_of(
    admits: Mapping[str, Collection[str]], *, audit: Audited | None = None, security: Security | None = None
) -> Guard:
    """A server's guard; in plaintext it checks the size of headers only.

    Args:
        admits: see :class:`Guard`, as is ``audit``.
        audit: or None.
        security: credentials; this process's own by default.
    """
    return Guard(admits if (security or Security.of_this_process()).is_mtls else None, audit)


def _service_of(method: str) -> str:
    return method.rpartition("/")[0].lstrip("/")


def _too_much(service: str, headers: Headers) -> Refusal | None:
    size = sum(len(name) + len(value) for name, value in headers)
    if size <= MAX_HEADER_BYTES:
        return None
    return _TOO_MUCH, f"{service}: {size} bytes of headers; send {MAX_HEADER_BYTES} at most"


def _why_denied(method: str, context: Context, admits: Mapping[str, Collection[str]]) -> str:
    """Why the peer may not call the method; empty if it may."""
    identity, service = peer_identity(context), _service_of(method)
    if identity is None:
        return f"{service}: your certificate does not name exactly one identity of {TRUST_DOMAIN}"
    roles = admits.get(method, admits.get(service))
    if roles is None or identity.role in roles or is_operator(identity):
        return ""
    return f"{service}: not for {identity.uri}; for {_named(roles)} only"


def _named(roles: Collection[str]) -> str:
    """Who may call, in words; of an API of the operator's, the operator first."""
    if not roles or OWNER in roles:
        return "the operator and owners" if roles else "the operator"
    return " and ".join(sorted(roles))


def _guarded(handler: Handler, refusal: Callable[[Context], Refusal | None], malformed: Refusal) -> Handler:
    behaviour = getattr(handler, kind_of(handler))
    if handler.request_streaming:

        def answers_to(requests: Any, context: Context) -> Any:
            return behaviour(_well_formed(requests, context, malformed), context)

    else:
        answers_to = behaviour

    def reason_against(request: Any, context: Context) -> Refusal | None:
        return refusal(context) or (malformed if request is MALFORMED else None)

    async def one(request: Any, context: Context) -> Any:
        if reason := reason_against(request, context):
            await context.abort(*reason)
        return await answers_to(request, context)

    async def several(request: Any, context: Context) -> Any:
        if reason := reason_against(request, context):
            await context.abort(*reason)
        answers = answers_to(request, context)
        if inspect.isawaitable(answers):  # the handler writes its answers itself
            await answers
            return
        async for answer in answers:
            yield answer

    behaviour_of = several if handler.response_streaming else one
    return with_behaviour(handler, behaviour_of, tolerant(handler.request_deserializer))


async def _well_formed(requests: AsyncIterable[Any], context: Context, malformed: Refusal) -> AsyncIterator[Any]:
    async for request in requests:
        if request is MALFORMED:
            await context.abort(*malformed)
        yield request
