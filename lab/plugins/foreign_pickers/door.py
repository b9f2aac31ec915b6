"""A door of OpenAI's API at one replica, for a router that balances over doors."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from hmac import compare_digest
from typing import Any

import grpc
import grpc.aio
import orjson
from grpc_health.v1 import health_pb2

from lab.client import RpcChannel
from lab.errors import CallError
from lab.plugins.foreign_pickers.messages import EVIDENCE, Asked, FormError, answer_evidence, asked_of, tokens_of
from lab.transport import answer_of, items_of
from lab.transport.rest_server import HttpReply, HttpRequest, TooLargeError
from models.apis import APIS
from models.json_mapping import parse_object
from models.rest import HTTP_STATUS
from services.gateway.openai import API, COMPLETIONS, DONE, MODELS, choice, error_body, event, head, listed, usage_of

HEALTH, TOKENIZE = "/health", "/tokenize"
"""The second is vLLM's: vllm-router's policy by prompts asks workers for tokens, and picks blindly without them."""
_LONGEST = 1 << 20  # tokens of a prompt, as it says
_CHECK, _CHECK_TIMEOUT_S = "/grpc.health.v1.Health/Check", 1.0
_SERVING = health_pb2.HealthCheckResponse.SERVING


class Door:
    """Answers HTTP requests with what a replica answers by gRPC.

    Args:
        replica: ``ip:port``.
        cluster: of the replica, which its certificate must prove where connections are secured.
        use_cases: that the models of :data:`MODELS` are named after.
        key: that a request for tokens must bring as its API key, as this door has more rights than its callers.
    """

    def __init__(self, replica: str, cluster: str, use_cases: list[str], key: str) -> None:
        self._channel = RpcChannel((replica,), peer=f"model/{cluster}")
        self._use_cases, self._authorization = use_cases, f"Bearer {key}"

    async def __call__(self, request: HttpRequest) -> HttpReply:
        """Answers one request; never raises."""
        path = request.target.partition("?")[0]
        if path == HEALTH:
            return HttpReply(200 if await self._is_healthy() else 503, b"{}")
        if path == MODELS:
            return HttpReply(200, orjson.dumps(listed(self._use_cases)))
        try:
            return await self._generated(path, request)
        except (FormError, CallError) as error:
            return _refusal(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TooLargeError:
            return _refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "the body is larger than the limit for messages")
        except grpc.aio.AioRpcError as error:
            return _refusal(error.code(), error.details() or error.code().name)

    async def close(self) -> None:
        """Closes the connection to the replica."""
        await self._channel.close()

    async def _generated(self, path: str, request: HttpRequest) -> HttpReply:
        if (request.method, path) == ("POST", TOKENIZE):
            tokens = tokens_of(parse_object(await request.read()).get("prompt", ""))
            return HttpReply(200, orjson.dumps({"count": len(tokens), "max_model_len": _LONGEST, "tokens": tokens}))
        if (request.method, path) != ("POST", COMPLETIONS):
            return _refusal(grpc.StatusCode.NOT_FOUND, f"{path}: no such resource; there is {COMPLETIONS}")
        if not compare_digest(dict(request.headers).get("authorization", ""), self._authorization):
            return _refusal(grpc.StatusCode.UNAUTHENTICATED, "only the router in front of it may ask this door")
        asked = asked_of(parse_object(await request.read()))
        return await (self._events if asked.streams else self._whole)(asked)

    async def _is_healthy(self) -> bool:
        question = health_pb2.HealthCheckRequest().SerializeToString()
        call = self._channel.raw(_CHECK)(question, timeout=_CHECK_TIMEOUT_S)
        try:
            answer = await answer_of(call, _CHECK_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(health_pb2.HealthCheckResponse.FromString(answer).status == _SERVING)

    async def _whole(self, asked: Asked) -> HttpReply:
        rpc = self._channel.rpc(APIS[API].unary)
        payload, left_s = asked.message.SerializeToString(), max(0.0, asked.until - time.monotonic())
        answer = await answer_of(rpc(payload, timeout=left_s, metadata=asked.headers), left_s)
        text = " ".join(token.id for token in answer.tokens)
        document = {
            **head(COMPLETIONS, asked.message, whole=True),
            "choices": [choice(COMPLETIONS, text, whole=True)],
            "usage": usage_of(answer.usage, len(answer.tokens)),
            EVIDENCE: answer_evidence(answer),
        }
        return HttpReply(200, orjson.dumps(document))

    async def _events(self, asked: Asked) -> HttpReply:
        method = APIS[API].stream
        assert method is not None  # noqa: S101 (this API streams)
        payload, left_s = asked.message.SerializeToString(), max(0.0, asked.until - time.monotonic())
        call = self._channel.rpc(method)(payload, timeout=left_s, metadata=asked.headers)
        items: Any = items_of(call, left_s)
        try:
            first = await anext(items)
        except BaseException:
            call.cancel()
            raise
        return HttpReply(200, b"", events=_events(asked, first, items, call))


async def _events(asked: Asked, first: Any, items: Any, call: Any) -> AsyncGenerator[bytes]:
    """The events of a stream whose first item has come."""
    shared, item, count = head(COMPLETIONS, asked.message, whole=False), first, 0
    try:
        async with aclosing(items):
            while item is not None:
                text = f" {item.token.id}" if count else item.token.id
                count += 1
                chosen = choice(COMPLETIONS, text, whole=False, last=count == asked.message.max_tokens)
                yield event({**shared, "choices": [chosen], EVIDENCE: answer_evidence(item)})
                item = await anext(items, None)
    except grpc.aio.AioRpcError as error:
        yield b"data: " + error_body(error.code(), error.details() or "") + b"\n\n"
        return
    finally:
        call.cancel()
    yield DONE


def _refusal(code: grpc.StatusCode, message: str) -> HttpReply:
    return HttpReply(HTTP_STATUS[code], error_body(code, message))
