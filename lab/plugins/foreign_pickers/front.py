"""The API ``generate.v1`` in front of a router: asks it by OpenAI's API, and rebuilds the answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import grpc
import grpc.aio
import orjson

from lab.plugins.foreign_pickers.messages import FormError, answer_of, request_document
from lab.routing.headers import OF_CLIENT, PARSED, REQUEST_ID, VIA, via
from lab.routing.keys import SESSION_HEADER
from lab.transport import proved_caller
from models.apis import APIS, Method
from models.rest import HTTP_STATUS
from services.gateway.openai import API, COMPLETIONS

_Context = grpc.aio.ServicerContext[Any, Any]

_OK = 200
_NO_DEADLINE_S = 60.0
_ROUTERS_KEY = "x-smg-routing-key"
"""Header that names the conversation for smg's sticky sessions."""
_DATA, _END = b"data: ", b"[DONE]"


class _RefusedError(Exception):
    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Front(grpc.GenericRpcHandler):
    """Handles the RPCs of ``generate.v1``.

    Args:
        role: of this unit.
        name: of this unit.
        url: of the router.
        key: of the doors behind it.
        session: of the HTTP client.
    """

    def __init__(self, role: str, name: str, url: str, key: str, session: aiohttp.ClientSession) -> None:
        self._role, self._url, self._key, self._session = role, url + COMPLETIONS, key, session
        self._via = VIA, via(role, name, PARSED)
        api = APIS[API]
        assert api.stream is not None  # noqa: S101 (this API streams)
        self._handlers = {
            api.unary.path: _handler(grpc.unary_unary_rpc_method_handler, self._whole, api.unary),
            api.stream.path: _handler(grpc.unary_stream_rpc_method_handler, self._items, api.stream),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method; None if it is not one of this API."""
        return self._handlers.get(handler_call_details.method)

    async def _whole(self, message: Any, context: _Context) -> Any:
        try:
            with self._explained():
                async with self._ask(message, context, streams=False) as reply:
                    return answer_of(APIS[API].unary.response_class, _answered(reply.status, await reply.read()))
        except _RefusedError as refused:
            await context.abort(refused.code, str(refused))

    async def _items(self, message: Any, context: _Context) -> AsyncIterator[Any]:
        method = APIS[API].stream
        assert method is not None  # noqa: S101 (this API streams)
        try:
            with self._explained():
                async with self._ask(message, context, streams=True) as reply:
                    if reply.status != _OK:
                        _answered(reply.status, await reply.read())
                    async for line in reply.content:
                        data = line.strip().removeprefix(_DATA)
                        if data == _END:
                            return
                        if data:
                            yield answer_of(method.response_class, _answered(_OK, data))
        except _RefusedError as refused:
            await context.abort(refused.code, str(refused))
        await context.abort(grpc.StatusCode.UNAVAILABLE, f"{self._role}: the stream ended early")

    def _ask(self, message: Any, context: _Context, *, streams: bool) -> Any:
        proved, claimed = proved_caller(context), message.envelope.context.caller
        if proved and claimed != proved:
            raise _RefusedError(
                grpc.StatusCode.PERMISSION_DENIED, f"you are {proved}, and may not ask as caller {claimed!r}"
            )
        left_s = context.time_remaining() or _NO_DEADLINE_S
        headers = [(k, v) for k, v in context.invocation_metadata() or () if k in OF_CLIENT and isinstance(v, str)]
        document = request_document(message, [*headers, self._via], time.monotonic() + left_s, streams=streams)
        sent = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self._key}",
            REQUEST_ID: message.envelope.request_id,
        }
        if message.session:
            sent |= {SESSION_HEADER: message.session, _ROUTERS_KEY: message.session}
        timeout = aiohttp.ClientTimeout(total=left_s)
        return self._session.post(self._url, data=orjson.dumps(document), headers=sent, timeout=timeout)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what HTTP raises into refusals."""
        try:
            yield
        except TimeoutError:
            raise _RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, f"{self._role}: no answer in time") from None
        except aiohttp.ClientError as error:
            raise _RefusedError(grpc.StatusCode.UNAVAILABLE, f"{self._role}: {error}") from None
        except FormError as error:
            raise _RefusedError(grpc.StatusCode.INTERNAL, f"{self._role}: {error}") from None


def _handler(make: Any, behaviour: Any, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
    handler: grpc.RpcMethodHandler[Any, Any] = make(
        behaviour,
        request_deserializer=method.request_class.FromString,
        response_serializer=method.response_class.SerializeToString,
    )
    return handler


def _answered(status: int, body: bytes) -> dict[str, Any]:
    """The document of a body.

    Raises:
        _RefusedError: it is an error, with the status that a door names, or else that of HTTP.
        FormError: it is not a document.
    """
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = {"error": {"message": body.decode(errors="replace")[:200]}} if status != _OK else None
    if not isinstance(document, dict):
        raise FormError("the answer is not an object of JSON")
    error = document.get("error")
    if status == _OK and error is None:
        return document
    known = error if isinstance(error, dict) else {"message": str(error or status)}
    codes = grpc.StatusCode.__members__
    by_http = next((code for code, each in HTTP_STATUS.items() if each == status), grpc.StatusCode.UNAVAILABLE)
    raise _RefusedError(codes.get(str(known.get("code")), by_http), str(known.get("message") or status))
