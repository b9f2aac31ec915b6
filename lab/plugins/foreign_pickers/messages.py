"""Requests and answers of ``generate.v1`` as JSON of OpenAI's API, and back.

A token of the prompt is a word of eight hexadecimal digits. What OpenAI's API has no field for is in the field
:data:`EVIDENCE`, which routers pass on: the rest of the message, the headers, and when its time is over.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from google.protobuf.message import DecodeError

from models.proto.generation.v1 import generation_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

    M = TypeVar("M", bound=Message)

EVIDENCE = "lab"


class FormError(ValueError):
    """A document does not have the form of this module."""


class Asked(NamedTuple):
    """A request as a door receives it.

    Attributes:
        headers: beside the request to the model.
        until: when its time is over, seconds of the monotonic clock that front and doors share.
        streams: whether the answer comes token by token.
    """

    message: generation_pb2.GenerateRequest
    headers: tuple[tuple[str, str], ...]
    until: float
    streams: bool


def request_document(
    message: generation_pb2.GenerateRequest, headers: Iterable[tuple[str, str]], until: float, *, streams: bool
) -> dict[str, Any]:
    """The body of a request."""
    rest = generation_pb2.GenerateRequest()
    rest.CopyFrom(message)
    rest.ClearField("prompt")
    return {
        "model": message.envelope.use_case,
        "prompt": " ".join(f"{token:08x}" for token in message.prompt),
        "max_tokens": message.max_tokens,
        "stream": streams,
        EVIDENCE: {"request": _text(rest), "headers": [list(each) for each in headers], "until": until},
    }


def asked_of(document: Mapping[str, Any]) -> Asked:
    """The request of a body.

    Raises:
        FormError: it is not one of :func:`request_document`.
    """
    try:
        evidence = document[EVIDENCE]
        message = _parsed(generation_pb2.GenerateRequest, evidence["request"])
        message.prompt.extend(tokens_of(document["prompt"]))
        headers = tuple((str(name), str(value)) for name, value in evidence["headers"])
        return Asked(message, headers, float(evidence["until"]), bool(document.get("stream")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormError(f"{EVIDENCE}: is missing, or not of the lab's form ({error})") from None


def tokens_of(prompt: str) -> list[int]:
    """Ids of the tokens of a prompt.

    Raises:
        FormError: a word is not a token.
    """
    try:
        return [int(word, 16) for word in prompt.split()]
    except (ValueError, AttributeError):
        raise FormError("prompt: has a word that is not of hexadecimal digits") from None


def answer_evidence(answer: generation_pb2.GenerateResponse | generation_pb2.GenerateStreamResponse) -> str:
    """What an answer says besides its text."""
    rest: Any = type(answer)()
    rest.CopyFrom(answer)
    for token in _tokens(rest):
        token.ClearField("id")
    return _text(rest)


def answer_of(kind: type[M], document: Mapping[str, Any]) -> M:
    """The answer, or the item of a stream, of a body; its tokens are the words of its text.

    Raises:
        FormError: it has no evidence, or another number of words.
    """
    try:
        answer = _parsed(kind, document[EVIDENCE])
        words = document["choices"][0]["text"].split()
        for token, word in zip(_tokens(answer), words, strict=True):
            token.id = word
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FormError(f"the answer lacks what the lab's doors add to it, or part of its text ({error})") from None
    return answer


def _tokens(answer: Any) -> list[generation_pb2.Token]:
    return [answer.token] if isinstance(answer, generation_pb2.GenerateStreamResponse) else list(answer.tokens)


def _text(message: Message) -> str:
    return b64encode(message.SerializeToString()).decode()


def _parsed(kind: type[M], text: str) -> M:
    try:
        return kind.FromString(b64decode(text, validate=True))
    except DecodeError:
        raise ValueError("not the message that it should be") from None
