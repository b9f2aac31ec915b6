"""The inference APIs of the lab as data, so that routing needs no code per API.

To add one: a ``.proto`` whose requests begin with an ``Envelope`` and whose answers begin with an ``AnsweredBy``, and
an entry in :data:`APIS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from models.proto.fraud.v1 import fraud_pb2
from models.proto.generation.v1 import generation_pb2
from models.proto.ranking.v1 import ranking_pb2

if TYPE_CHECKING:
    from models.proto.serving.v1 import serving_pb2

FLOAT_BYTES = 4
_TITLES = 10
# Bytes for ids, tags and lengths: of one title, and of a payment with its other fields.
_TITLE_BYTES = 9
_PAYMENT_BYTES = 19
# Bytes for max_tokens, tag and length: of a request for tokens.
_GENERATE_BYTES = 5
ANSWER_TOKENS = 16
"""Number of tokens that a request asks for."""


class InferenceRequest(Protocol):
    """A protobuf request that begins with the envelope."""

    @property
    def envelope(self) -> serving_pb2.Envelope:
        """The caller's request context, the use case, and the model's configuration."""

    def SerializeToString(self) -> bytes:
        """The request on the wire."""

    def ClearField(self, field_name: Literal["envelope"]) -> None:
        """Clears a field."""

    def ByteSize(self) -> int:
        """Its length, bytes."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC of an API.

    Attributes:
        path: its HTTP/2 path, ``/ranking.v1.Ranking/Rank``.
        streaming: whether it returns a stream of responses.
    """

    path: str
    request_class: Any
    response_class: Any
    streaming: bool = False


class Prompt(NamedTuple):
    """What a picker of replicas may go by: ids of the prompt's tokens, conversation, and adapter of the model."""

    tokens: Sequence[int]
    session: str
    lora: str


@dataclass(frozen=True, slots=True)
class Api:
    """One inference API.

    Attributes:
        name: as in the route table, ``ranking.v1``.
        service: full name of its gRPC service.
        unary: the RPC with a single response.
        stream: the RPC that streams item by item, None if there is none.
        build_request: makes a request of about this many bytes without its envelope, filled with feature vectors.
        items: ids and scores of a response's items, in their order.
        streamed_item: id and score of the item in one response of the stream; None if there is no stream.
        prompt_of: what a picker may go by in a request; None if its requests have no prompt.
        usage_of: what a response, or the first one of a stream, claims in its field ``usage`` that the request cost;
            None if its responses have no such field.
    """

    name: str
    service: str
    unary: Method
    stream: Method | None
    build_request: Callable[[int], Any]
    items: Callable[[Any], Sequence[tuple[str, float]]]
    streamed_item: Callable[[Any], tuple[str, float]] | None = None
    prompt_of: Callable[[Any], Prompt] | None = None
    usage_of: Callable[[Any], str] | None = None

    @property
    def methods(self) -> tuple[Method, ...]:
        """All RPCs."""
        return (self.unary,) if self.stream is None else (self.unary, self.stream)

    def first_item(self, response: Any) -> tuple[str, float]:
        """Id and score of a response's first item; empty and 0 if it has none."""
        return next(iter(self.items(response)), ("", 0.0))


def items_digest(items: Sequence[tuple[str, float]]) -> str:
    """Digest over an answer's items: BLAKE2b, 8 bytes, hexadecimal, over a line of id and score of each."""
    lines = "".join([f"{item_id}\0{score!r}\n" for item_id, score in items])
    return blake2b(lines.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _floats(payload_bytes: int) -> int:
    return max(payload_bytes, 0) // FLOAT_BYTES


def _rank_request(payload_bytes: int) -> ranking_pb2.RankRequest:
    each, more = divmod(_floats(payload_bytes - _TITLES * _TITLE_BYTES), _TITLES)
    features = [0.5] * (each + 1)
    shorter = features[:each]
    return ranking_pb2.RankRequest(
        titles=[
            ranking_pb2.Title(id=f"t{number:02}", features=features if number < more else shorter)
            for number in range(_TITLES)
        ]
    )


def _score_request(payload_bytes: int) -> fraud_pb2.ScoreRequest:
    features = [0.5] * _floats(payload_bytes - _PAYMENT_BYTES)
    payment = fraud_pb2.Payment(id="p01", amount_minor_units=4_200, currency="EUR", features=features)
    return fraud_pb2.ScoreRequest(payment=payment)


def _generate_request(payload_bytes: int) -> generation_pb2.GenerateRequest:
    tokens = max(_floats(payload_bytes - _GENERATE_BYTES), 1)
    return generation_pb2.GenerateRequest(prompt=range(tokens), max_tokens=ANSWER_TOKENS)


def _usage(usage: generation_pb2.Usage) -> str:
    return f"{usage.prompt_tokens} {usage.cached_tokens} {usage.queue_ms:.3f}"


def _titles(response: ranking_pb2.RankResponse) -> list[tuple[str, float]]:
    return [(title.id, title.score) for title in response.titles]


APIS: dict[str, Api] = {
    api.name: api
    for api in (
        Api(
            name="ranking.v1",
            service="ranking.v1.Ranking",
            unary=Method("/ranking.v1.Ranking/Rank", ranking_pb2.RankRequest, ranking_pb2.RankResponse),
            stream=Method(
                "/ranking.v1.Ranking/RankStream",
                ranking_pb2.RankRequest,
                ranking_pb2.RankStreamResponse,
                streaming=True,
            ),
            build_request=_rank_request,
            items=_titles,
            streamed_item=lambda response: (response.title.id, response.title.score),
        ),
        Api(
            name="fraud.v1",
            service="fraud.v1.Fraud",
            unary=Method("/fraud.v1.Fraud/Score", fraud_pb2.ScoreRequest, fraud_pb2.ScoreResponse),
            stream=None,
            build_request=_score_request,
            items=lambda response: [(response.payment_id, response.score)],
        ),
        Api(
            name="generate.v1",
            service="generate.v1.Generation",
            unary=Method(
                "/generate.v1.Generation/Generate", generation_pb2.GenerateRequest, generation_pb2.GenerateResponse
            ),
            stream=Method(
                "/generate.v1.Generation/GenerateStream",
                generation_pb2.GenerateRequest,
                generation_pb2.GenerateStreamResponse,
                streaming=True,
            ),
            build_request=_generate_request,
            items=lambda response: [(token.id, token.score) for token in response.tokens],
            streamed_item=lambda response: (response.token.id, response.token.score),
            prompt_of=lambda request: Prompt(request.prompt, request.session, request.lora),
            usage_of=lambda response: _usage(response.usage),
        ),
    )
}

METHODS: dict[str, Method] = {method.path: method for api in APIS.values() for method in api.methods}

API_BY_REQUEST: dict[type, Api] = {api.unary.request_class: api for api in APIS.values()}
