"""How a request says where it goes: by a routing header, or by the envelope in its body."""

from __future__ import annotations

import os

import grpc
from google.protobuf.any_pb2 import Any

from models.proto.ranking.v1 import ranking_pb2
from models.proto.serving.v1 import serving_pb2

ANSWER, OTHER = "/lab.conform.v1.Model/Answer", "/lab.conform.v1.Model/Other"
"""Methods of the models behind a proxy that routes on a header; they answer every one in the same way."""
BY_HEADER, BY_ENVELOPE = "header", "envelope"
"""Names of the two forms."""
CALLER = "homepage"
"""Caller that the envelopes name."""
USER, REGION, TIER = "x-conform-user", "x-conform-region", "x-conform-tier"
"""Headers that routes may ask for."""
_FLOAT_BYTES, _USER_BYTES = 4, 8

Metadata = tuple[tuple[str, str | bytes], ...]


class ByHeader:
    """The key is a header; bodies are the bytes themselves.

    Attributes:
        name: of the form.
        unknown: status of a key without a route.
        answer: method of a request with one answer.
        stream: method of a request whose answer is a stream.
        described: what the proxy routes on, for messages.
        table: the same, for the table of routes.
    """

    name = BY_HEADER
    unknown = grpc.StatusCode.UNAVAILABLE
    answer = ANSWER
    stream = ANSWER

    def __init__(self, header: str) -> None:
        self.header = self.described = header
        self.table = {"header": header}

    def key(self, key: str) -> str:
        """The key as the table of routes writes it."""
        return key

    def field(self, header: str) -> str:
        """The header that a route asks for, as the table of routes writes it."""
        return header

    def metadata(self, key: str | None, metadata: Metadata) -> Metadata:
        """Headers of a request with this key, None for none, and this metadata."""
        return metadata if key is None else ((self.header, key), *metadata)

    def body(self, key: str | None, metadata: Metadata, message: bytes) -> bytes:  # noqa: ARG002 (for other forms)
        """Body of such a request."""
        return message

    def message(self, body: bytes) -> bytes:
        """What was sent, from the body that a model received."""
        return body

    def answered(self, message: bytes) -> bytes:
        """Body of an answer."""
        return message

    def answer_of(self, body: bytes) -> bytes:
        """What the model answered, from the body that the caller received."""
        return body


class ByEnvelope(ByHeader):
    """The key is the use case in the envelope of a ``ranking.v1.RankRequest``, which has no routing header."""

    name = BY_ENVELOPE
    unknown = grpc.StatusCode.NOT_FOUND
    answer = "/ranking.v1.Ranking/Rank"
    stream = "/ranking.v1.Ranking/RankStream"

    def __init__(self) -> None:
        super().__init__("use case")
        self.table = {"envelope": serving_pb2.Envelope.DESCRIPTOR.full_name}

    def key(self, key: str) -> str:
        """The name of the use case, which the lab's route tables write without hyphens and dots."""
        return key.replace("-", "").replace(".", "x")

    def field(self, header: str) -> str:
        """The field of the context that stands for the header."""
        return _FIELDS[header]

    def metadata(self, key: str | None, metadata: Metadata) -> Metadata:  # noqa: ARG002 (as above)
        """The headers that stand for no field of the context."""
        return tuple(each for each in metadata if each[0] not in _FIELDS)

    def body(self, key: str | None, metadata: Metadata, message: bytes) -> bytes:
        """The message beside an envelope; without a key there is no envelope.

        A request that names no user is one of a new user.
        """
        request = ranking_pb2.RankRequest(titles=[_title(message)])
        if key is not None:
            context = {_FIELDS[name]: str(value) for name, value in metadata if name in _FIELDS}
            context = {"caller": CALLER, "user_id": os.urandom(_USER_BYTES).hex(), **context}
            request.envelope.use_case = self.key(key)
            for field, value in context.items():
                setattr(request.envelope.context, field, value)
        return request.SerializeToString()

    def message(self, body: bytes) -> bytes:
        """The bytes in the title."""
        title = Any.FromString(ranking_pb2.RankRequest.FromString(body).titles[0].SerializeToString())
        return title.value[: int(title.type_url)]

    def answered(self, message: bytes) -> bytes:
        """A ``RankResponse`` that holds these bytes; an item of a stream has the same form."""
        return ranking_pb2.RankResponse(answered_by=serving_pb2.AnsweredBy(received=message)).SerializeToString()

    def answer_of(self, body: bytes) -> bytes:
        """The bytes that it holds."""
        return ranking_pb2.RankResponse.FromString(body).answered_by.received


_FIELDS = {USER: "user_id", REGION: "country", TIER: "segment"}


def _title(message: bytes) -> ranking_pb2.Title:
    """A title that holds these bytes as its features, and their number as its id.

    On the wire it is an Any, a text and bytes: so no number is read and written, which need not leave its bytes as they
    were.
    """
    padded = message + bytes(-len(message) % _FLOAT_BYTES)
    return ranking_pb2.Title.FromString(Any(type_url=str(len(message)), value=padded).SerializeToString())
