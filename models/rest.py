"""The inference APIs over REST: JSON in and out, through the same handlers as gRPC.

A handler receives the parsed message and a context like gRPC's, so admission, routing, limits, statuses and logs are
the same. Only HTTP's own concerns are decided here: paths, methods, sizes, and status codes.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

import grpc
import orjson

from lab.errors import CallError
from lab.routing.headers import REQUEST_ID
from lab.transport import tracing
from lab.transport.channels import MAX_MESSAGE_BYTES
from lab.transport.rest_server import HttpReply, HttpRequest, TooLargeError
from models.apis import APIS, Api, Method
from models.json_mapping import from_document, parse_object, serialise

if TYPE_CHECKING:
    from lab.transport.authorization import Guard

    Handler = Callable[[Any, Any], Awaitable[Any]]
    Metadata = Sequence[tuple[str, str]]

READY = "/readyz"
TIMEOUT = "grpc-timeout"

# gRPC status → HTTP status: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}

_NOT_FOUND, _WRONG_METHOD, _TOO_LARGE, _WRONG_TYPE = 404, 405, 413, 415
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT_FORM = re.compile(r"(\d{1,8})([HMSmun])")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resource:
    """The resource at a path.

    Attributes:
        method: its RPC.
        use_case: named by the path; empty if the path names none.
        envelope_only: whether the message type is unknown, so only the envelope is parsed: enough to refuse the
            request.
    """

    method: Method
    use_case: str = ""
    envelope_only: bool = False


class Rest:
    """Answers HTTP requests by calling handlers.

    Args:
        handlers: RPC → handler.
        find: path → resource, None if there is none.
        paths: the existing paths, for the error message.
        ready: whether the unit accepts requests.
        guard: authorises the peer, as for gRPC; None if peers do not authenticate.
    """

    def __init__(
        self,
        *,
        handlers: Callable[[Method], Handler],
        find: Callable[[str], Resource | None],
        paths: str,
        ready: Callable[[], Awaitable[bool]],
        guard: Guard | None = None,
    ) -> None:
        self._handlers = handlers
        self._find = find
        self._paths = paths
        self._ready = ready
        self._guard = guard

    async def __call__(self, request: HttpRequest) -> HttpReply:
        """Answers one request; never raises."""
        try:
            return await self._reply(request)
        except HttpError as error:
            return _refusal(error.code, str(error), error.status, error.headers)
        except TooLargeError:
            reason = f"body: is larger than {MAX_MESSAGE_BYTES} bytes; send fewer items a request"
            return _refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, _TOO_LARGE)
        except CallError as error:
            return _refusal(error.code, error.message)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 (the client gets a status, the log the traceback)
            _log.exception("%s %s failed", request.method, request.target)
            return _refusal(grpc.StatusCode.INTERNAL, "the server failed; its log says why")

    async def _reply(self, request: HttpRequest) -> HttpReply:
        path, _, query = request.target.partition("?")
        if path == READY:
            require_method(request, "GET", path)
            serves = await self._ready()
            return HttpReply(200 if serves else 503, b'{"status":"%s"}' % (b"SERVING" if serves else b"NOT_SERVING"))
        resource = self._find(unquote(path))
        if resource is None:
            raise HttpError(_NOT_FOUND, grpc.StatusCode.NOT_FOUND, f"{path}: no such resource; there is {self._paths}")
        require_method(request, "POST", path)
        if query:
            raise CallError(
                grpc.StatusCode.INVALID_ARGUMENT, f"?{query[:40]}: the resource takes no parameters; use the body"
            )
        require_json(request.headers)
        _require_plain(request.headers)
        context: Any = RestContext(request.headers, request.peer)  # what gRPC would pass
        if self._guard is not None and (refusal := self._guard.refusal(resource.method.path, context, request.headers)):
            raise CallError(*refusal)
        document = parse_object(await request.read())
        message = _message(resource, document, request.headers)
        handler = tracing.spanned(resource.method.path, request.headers, self._handlers(resource.method))
        answer = await _in_time(handler(message, context), context.time_remaining())
        return HttpReply(200, serialise(answer), dict(context.trailing_metadata()))


class RestContext:
    """The part of a gRPC context that handlers and spans use, for a request over REST."""

    def __init__(self, headers: Metadata, peer: str) -> None:
        self._response_headers: dict[str, str] = {}
        self._code: grpc.StatusCode | None = None
        self._peer = peer
        self._headers = headers
        timeout_s = _timeout_s(headers)
        self._until = None if timeout_s is None else time.monotonic() + timeout_s

    def invocation_metadata(self) -> Metadata:
        """The request's headers."""
        return self._headers

    def auth_context(self) -> dict[str, list[bytes]]:
        """The peer's TLS identity, in gRPC's form."""
        return {"peer_spiffe_id": [self._peer.encode()]} if self._peer else {}

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline, from its ``grpc-timeout`` header; None without one."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Adds headers to the response, which has none before its body."""
        self.set_trailing_metadata(metadata)

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Adds headers to the response."""
        self._response_headers.update(metadata)

    def trailing_metadata(self) -> Metadata:
        """The response's headers, as far as the handler has set them."""
        return tuple(self._response_headers.items())

    def code(self) -> grpc.StatusCode | None:
        """The status with which the handler has ended the request; None if it has not."""
        return self._code

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """Ends the request with a status."""
        self._code = code
        raise HttpError(HTTP_STATUS[code], code, details, dict(trailing_metadata))


class HttpError(Exception):
    """A request that ends with a status of HTTP and one of gRPC."""

    def __init__(self, status: int, code: grpc.StatusCode, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


def resource_path(api: Api) -> str:
    """Path of an API's unary RPC at a model: ``/v1/ranking:rank``."""
    package, _, version = api.name.rpartition(".")
    rpc = api.unary.path.rpartition("/")[2]
    return f"/{version}/{package}:{rpc[0].lower()}{rpc[1:]}"


RESOURCES = {resource_path(api): Resource(api.unary) for api in APIS.values()}
"""The resources of a model, by path."""


async def _in_time(answer: Awaitable[Any], within_s: float | None) -> Any:
    """Cancels a handler at the client's deadline, as a gRPC server does."""
    if within_s is None:
        return await answer
    try:
        async with asyncio.timeout(within_s):
            return await answer
    except TimeoutError:
        reason = f"no answer within {within_s * 1000:.0f} ms, as the header {TIMEOUT} asked"
        raise CallError(grpc.StatusCode.DEADLINE_EXCEEDED, reason) from None


def _message(resource: Resource, document: dict[str, Any], headers: Metadata) -> Any:
    if resource.envelope_only:
        document = {"envelope": document.get("envelope")}
    message = from_document(resource.method.request_class, document)
    if resource.use_case:
        envelope = message.envelope
        if envelope.use_case not in {"", resource.use_case}:
            raise CallError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"envelope.useCase: is {envelope.use_case!r}, and the path says {resource.use_case!r}; leave it out",
            )
        envelope.use_case = resource.use_case
        # The body's own id has precedence: a proxy on the way may have added the header.
        envelope.request_id = envelope.request_id or _first(headers, REQUEST_ID)
    return message


def _refusal(code: grpc.StatusCode, message: str, status: int = 0, headers: dict[str, str] | None = None) -> HttpReply:
    """A ``google.rpc.Status`` as JSON."""
    body = {"code": code.value[0], "message": message, "details": []}
    return HttpReply(status or HTTP_STATUS[code], orjson.dumps(body), headers or {})


def require_method(request: HttpRequest, method: str, path: str) -> None:
    """Raises HttpError for another method."""
    if request.method != method:
        raise HttpError(
            _WRONG_METHOD,
            grpc.StatusCode.UNIMPLEMENTED,
            f"{request.method} {path}: the resource has {method} only",
            {"Allow": method},
        )


def _first(headers: Metadata, name: str) -> str:
    """The header's first value; empty if there is none."""
    return next((value for each, value in headers if each == name), "")


def require_json(headers: Metadata) -> None:
    """Raises HttpError unless the body is JSON."""
    given = _first(headers, "content-type")
    kind, _, parameters = given.partition(";")
    charset = parameters.partition("charset=")[2].partition(";")[0].strip().strip('"').lower()
    if kind.strip().lower() != "application/json" or charset not in {"", "utf-8", "utf8"}:
        raise HttpError(
            _WRONG_TYPE,
            grpc.StatusCode.INVALID_ARGUMENT,
            f"content-type: is {given[:60]!r}; send JSON in UTF-8, with the header content-type: application/json",
        )


def _require_plain(headers: Metadata) -> None:
    given = _first(headers, "content-encoding")
    if given.strip().lower() not in {"", "identity"}:
        raise HttpError(
            _WRONG_TYPE,
            grpc.StatusCode.UNIMPLEMENTED,
            f"content-encoding: is {given[:60]!r}; send the body uncompressed",
        )


def _timeout_s(headers: Metadata) -> float | None:
    given = next((value for name, value in headers if name == TIMEOUT), None)
    if given is None:
        return None
    form = _TIMEOUT_FORM.fullmatch(given)
    if form is None:
        raise CallError(
            grpc.StatusCode.INVALID_ARGUMENT, f"{TIMEOUT}: {given[:20]!r} is not a timeout: use e.g. 500m for 500 ms"
        )
    return int(form[1]) * _UNITS_S[form[2]]
