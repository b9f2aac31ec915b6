"""OpenAI's API at the gateway: completions and chat completions, at once or as server-sent events, and the models.

``model`` names a use case of ``generate.v1``; requests become those of that API, so that decisions, limits, statuses
and logs are the same. A token stands for a word: its id is the CRC-32 of the word, as these models know no language.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from zlib import crc32

import grpc
import orjson

from lab.errors import CallError
from lab.plain_text import printable
from lab.routing.headers import REQUEST_ID
from lab.routing.keys import SESSION_HEADER
from lab.transport import tracing
from lab.transport.rest_server import HttpReply, HttpRequest, TooLargeError
from models.apis import ANSWER_TOKENS, APIS
from models.json_mapping import parse_object
from models.proto.generation.v1 import generation_pb2
from models.rest import HTTP_STATUS, HttpError, RestContext, require_json, require_method

if TYPE_CHECKING:
    from lab.transport.authorization import Guard
    from services.gateway.forwarder import Forwarder

API = "generate.v1"
COMPLETIONS, CHAT, MODELS = "/v1/completions", "/v1/chat/completions", "/v1/models"
HEALTH = "/health"
"""vLLM's, which load generators ask first."""

_BEARER = "Bearer "
_WORD = re.compile(r"\s*\S+")
DONE = b"data: [DONE]\n\n"


class OpenAi:
    """Answers requests for OpenAI's paths, and passes on all others.

    Args:
        forwarder: of the gateway.
        others: answers the others.
        guard: authorises the peer, as for gRPC; None if peers do not authenticate.
    """

    def __init__(
        self, forwarder: Forwarder, others: Callable[[HttpRequest], Awaitable[HttpReply]], guard: Guard | None = None
    ) -> None:
        self._forwarder, self._others, self._guard = forwarder, others, guard

    async def __call__(self, request: HttpRequest) -> HttpReply:
        """Answers one request; never raises."""
        path = request.target.partition("?")[0]
        if path not in {COMPLETIONS, CHAT, MODELS, HEALTH} and not path.startswith(f"{MODELS}/"):
            return await self._others(request)
        try:
            return await self._answer(path, request)
        except HttpError as error:
            return HttpReply(error.status, error_body(error.code, str(error)), error.headers)
        except CallError as error:
            return HttpReply(HTTP_STATUS[error.code], error_body(error.code, error.message))
        except TooLargeError:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            return HttpReply(413, error_body(code, "the body is larger than the limit for messages; send fewer tokens"))

    async def _answer(self, path: str, request: HttpRequest) -> HttpReply:
        require_method(request, "POST" if path in {COMPLETIONS, CHAT} else "GET", path)
        context: Any = RestContext(request.headers, request.peer)  # what gRPC would pass
        method = APIS[API].unary.path
        if self._guard is not None and (refusal := self._guard.refusal(method, context, request.headers)):
            raise CallError(*refusal)
        if path == HEALTH:
            return HttpReply(200, b"{}")
        if path not in {COMPLETIONS, CHAT}:
            return HttpReply(200, orjson.dumps(self._models(unquote(path.removeprefix(MODELS).removeprefix("/")))))
        require_json(request.headers)
        body = parse_object(await request.read())
        message = _message(path, body, dict(request.headers))
        if body.get("stream"):
            return await self._stream(path, body, message, context)
        handler = tracing.spanned(method, request.headers, self._forwarder.unary_handler(APIS[API].unary))
        response = await handler(message, context)
        usage = response.usage
        text = " ".join(token.id for token in response.tokens)
        document = {
            **head(path, message, whole=True),
            "choices": [choice(path, text, whole=True)],
            "usage": usage_of(usage, len(response.tokens)),
        }
        return HttpReply(200, orjson.dumps(document), dict(context.trailing_metadata()))

    def _models(self, name: str) -> dict[str, Any]:
        """The one of this name; all, without a name."""
        models = listed(self._forwarder.use_cases_of(API))
        if not name:
            return models
        for each in models["data"]:
            if each["id"] == name:
                return dict(each)
        raise CallError(grpc.StatusCode.NOT_FOUND, f"model {printable(name, 60)!r} is not known; {MODELS} lists all")

    async def _stream(self, path: str, body: Mapping[str, Any], message: Any, context: Any) -> HttpReply:
        """A reply whose status is known by the first token; what fails later is an event."""
        method = APIS[API].stream
        assert method is not None  # noqa: S101 (this API streams)
        items = self._forwarder.stream_handler(method)(message, context)
        try:
            first = await anext(items)
        except BaseException:
            await items.aclose()
            raise
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        events = _events(path, message, first, items, with_usage=with_usage)
        return HttpReply(200, b"", dict(context.trailing_metadata()), events)


async def _events(path: str, message: Any, first: Any, items: Any, *, with_usage: bool) -> AsyncGenerator[bytes]:
    shared = head(path, message, whole=False)
    shared |= {"usage": None} if with_usage else {}
    count, most = 0, message.max_tokens
    async with aclosing(items):
        try:
            response = first
            while response is not None:
                text = response.token.id if not count else f" {response.token.id}"
                count += 1
                yield event({**shared, "choices": [choice(path, text, whole=False, last=count == most)]})
                response = await anext(items, None)
        except HttpError as error:
            yield b"data: " + error_body(error.code, str(error)) + b"\n\n"
            return
    if with_usage:
        yield event({**shared, "choices": [], "usage": usage_of(first.usage, count)})
    yield DONE


def event(document: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(document) + b"\n\n"


def listed(names: list[str]) -> dict[str, Any]:
    """The answer for the list of models."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "lab"} for name in names],
    }


def head(path: str, message: Any, *, whole: bool) -> dict[str, Any]:
    """What all answers to a request begin with; ``whole``: at once, not as events."""
    kind = "text_completion" if path == COMPLETIONS else f"chat.completion{'' if whole else '.chunk'}"
    envelope = message.envelope
    return {
        "id": f"{'cmpl' if path == COMPLETIONS else 'chatcmpl'}-{envelope.request_id}",
        "object": kind,
        "created": int(time.time()),  # noqa: TID251 (a date for people)
        "model": envelope.use_case,
    }


def choice(path: str, text: str, *, whole: bool, last: bool = True) -> dict[str, Any]:
    """The one choice of an answer, or of an event."""
    said: dict[str, Any] = {"text": text}
    if path == CHAT:
        said = {"message" if whole else "delta": {"role": "assistant", "content": text}}
    return {"index": 0, **said, "logprobs": None, "finish_reason": "length" if last else None}


def usage_of(usage: generation_pb2.Usage, completion: int) -> dict[str, Any]:
    """What the replica says that the request cost; ``completion``: tokens generated."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": usage.prompt_tokens + completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def error_body(code: grpc.StatusCode, message: str) -> bytes:
    """The JSON of an error, which names its gRPC status as the code."""
    kind = "invalid_request_error" if HTTP_STATUS[code] < 500 else "server_error"  # noqa: PLR2004 (HTTP's)
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code.name}})


def _refuse(message: str) -> CallError:
    return CallError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _message(path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> generation_pb2.GenerateRequest:
    """The request of a body.

    In plaintext the API key names the caller; a certificate proves it.
    """
    body = {name: value for name, value in body.items() if value is not None}  # null is the default
    use_case = body.get("model")
    if not isinstance(use_case, str) or not use_case:
        raise _refuse("model: is missing; name a use case, as GET /v1/models lists them")
    wanted = body.get("max_completion_tokens", body.get("max_tokens", ANSWER_TOKENS))
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise _refuse("max_tokens: is not a whole number from 1; write e.g. 16")
    if body.get("n", 1) != 1:
        raise _refuse("n: these models give one choice; leave it out")
    prompt = _prompt(body.get("prompt")) if path == COMPLETIONS else _messages(body.get("messages"))
    message = generation_pb2.GenerateRequest(
        prompt=prompt, max_tokens=min(wanted, 1 << 31), session=headers.get(SESSION_HEADER, "")
    )
    envelope, user = message.envelope, body.get("user", "openai")
    if not isinstance(user, str):
        raise _refuse("user: is not a text")
    envelope.use_case, envelope.context.user_id = use_case, user
    envelope.request_id = headers.get(REQUEST_ID, "")
    key = headers.get("authorization", "")
    if key.startswith(_BEARER):
        envelope.context.caller = key.removeprefix(_BEARER)
    return message


def _prompt(prompt: Any) -> list[int]:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt.strip():
        return _tokens(prompt)
    if isinstance(prompt, list) and prompt and all(type(each) is int and 0 <= each < 1 << 32 for each in prompt):
        return prompt
    raise _refuse("prompt: is neither a text nor a list of tokens; send one prompt a request")


def _messages(messages: Any) -> list[int]:
    tokens: list[int] = []
    for each in messages if isinstance(messages, list) else ():
        role, content = (each.get("role"), each.get("content")) if isinstance(each, dict) else (None, None)
        if content is None and role == "assistant":  # it has called tools, and said nothing
            content = ""
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        if not isinstance(role, str) or not isinstance(content, str):
            raise _refuse("messages: one has no role, or no content of text")
        tokens += [crc32(f"<{role}>".encode()), *_tokens(content)]
    if not tokens:
        raise _refuse("messages: is empty; send a list of objects with role and content")
    return tokens


def _tokens(text: str) -> list[int]:
    return [crc32(word.encode("utf-8", "surrogatepass")) for word in _WORD.findall(text)]
