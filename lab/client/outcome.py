"""How a request went, as a record has it: what is known of its answer or its error."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.history import NONE_SEEN
from models.apis import APIS, items_digest
from models.context import origin_name

if TYPE_CHECKING:
    from lab.client.client import Answer
    from lab.errors import CallError
    from models.apis import Api
    from models.proto.serving.v1 import serving_pb2


class Outcome(NamedTuple):
    """The fields of a :class:`lab.history.Record` that are known only after the request; see there."""

    status: str
    message: str = ""
    source: str = ""
    routing_key: str = ""
    revision: int = 0
    model: str = ""
    version: str = ""
    cluster: str = ""
    replica: str = ""
    served_revision: int = 0
    attempts: int = 1
    item_id: str = ""
    score: float = 0.0
    shadow: str = ""
    seen_origin: str = ""
    seen_tenant: str = ""
    received: str = ""
    streamed: int = 0
    items: str = ""
    items_digest: str = ""
    first_item_ns: int = 0
    usage: str = ""


# In a record, the request's `override` stands before the outcome's `shadow`.
_SHADOW = Outcome._fields.index("shadow")
_drawn = itemgetter("user_id", "device", "country", "segment", "surface", "tenant", "traffic_origin")


def answered(answer: Answer, api: Api) -> Outcome:
    """The outcome of a request that was answered, by a model or by default; takes the response apart.

    The digest of its items is BLAKE2b, 8 bytes, over a line of each: id and score, separated by NUL.
    """
    response = answer.response
    by = response.answered_by
    # The rest is the same in each answer of a model version to a user.
    response.ClearField("answered_by")
    usage = _take_usage(response, api) if api.usage_of else ""
    return _outcome(answer, by, *_items(api.name, response.SerializeToString()), usage)


def _take_usage(response: Any, api: Api) -> str:
    """What a response claims, which is taken out of it; empty if it claims nothing."""
    if api.usage_of is None or not response.HasField("usage"):
        return ""
    usage = api.usage_of(response)
    response.ClearField("usage")
    return usage


@lru_cache(maxsize=4_096)
def _items(api_name: str, raw: bytes) -> tuple[str, float, str]:
    """Id and score of the first item, and the digest of all."""
    api = APIS[api_name]
    items = api.items(api.unary.response_class.FromString(raw))
    return *(items[0] if items else ("", 0.0)), items_digest(items)


def _outcome(
    answer: Answer,
    by: serving_pb2.AnsweredBy,
    item_id: str,
    score: float,
    items_digest: str = "",
    usage: str = "",
) -> Outcome:
    return Outcome(
        status="OK",
        source=answer.source,
        routing_key=answer.routing_key,
        revision=answer.revision,
        model=by.model,
        version=by.version,
        cluster=by.cluster,
        replica=by.replica,
        served_revision=by.revision,
        attempts=answer.attempts,
        item_id=item_id,
        score=score,
        shadow=answer.shadow,
        seen_origin=_seen_origin(by),
        seen_tenant=by.tenant,
        received=by.received.hex(),
        items_digest=items_digest,
        usage=usage,
    )


def _seen_origin(by: serving_pb2.AnsweredBy) -> str:
    return (origin_name(by) or NONE_SEEN) if by.HasField("traffic_origin") else ""


class StreamedItems:
    """Collects the items of one stream.

    Their digest is BLAKE2b, 8 bytes, over a line of each item: id, score, and model, version, cluster, replica,
    revision, traffic origin, tenant and receipt by its own report, separated by NUL.

    Args:
        api: that was asked; has a streaming method.
        sent_ns: when the request was sent, on ``time.monotonic_ns``.
    """

    def __init__(self, api: Api, sent_ns: int) -> None:
        assert api.streamed_item is not None  # noqa: S101 (the plan streams no other API)
        self._api, self._item_of, self._sent_ns = api, api.streamed_item, sent_ns
        self._ids: list[str] = []
        self._digest = blake2b(digest_size=8)
        self._first: Outcome | None = None
        self._first_item_ns = 0

    def add(self, answer: Answer) -> None:
        """Adds the next item."""
        item_id, score = self._item_of(answer.response)
        if self._first is None:
            self._first_item_ns = monotonic_ns() - self._sent_ns
            usage = _take_usage(answer.response, self._api)
            self._first = _outcome(answer, answer.response.answered_by, item_id, score, usage=usage)
        by = answer.response.answered_by
        self._ids.append(item_id)
        values = (item_id, repr(score), by.model, by.version, by.cluster, by.replica, str(by.revision))
        seen = (_seen_origin(by), by.tenant, by.received.hex())
        self._digest.update(("\0".join((*values, *seen)) + "\n").encode("utf-8", "surrogatepass"))

    def answered(self) -> Outcome:
        """Returns the outcome of a stream that has ended without an error."""
        return self._first or Outcome("OK")

    def with_items(self, outcome: Outcome) -> Outcome:
        """Returns the outcome with what has arrived of the stream, complete or not."""
        return outcome._replace(
            streamed=1,
            items=" ".join(self._ids),
            items_digest=self._digest.hexdigest() if self._ids else "",
            first_item_ns=self._first_item_ns,
        )


def failed(error: CallError) -> Outcome:
    """The outcome of a request that failed."""
    return Outcome(
        status=error.code.name,
        message=error.message,
        routing_key=error.routing_key,
        revision=error.revision,
        attempts=error.attempts,
        shadow=error.shadow,
    )


def record_values(
    outcome: Outcome,
    context: Mapping[str, str],
    *,
    sequence: int,
    request_id: str,
    topology: str,
    use_case: str,
    payload_bytes: int,
    intended_ns: int,
    sent_ns: int,
    done_ns: int,
) -> tuple[str | int | float, ...]:
    """Returns the values of a record in field order; see :class:`lab.history.Record`, to make which takes longer."""
    return (
        sequence,
        request_id,
        topology,
        context["caller"],
        use_case,
        *_drawn(context),
        payload_bytes,
        intended_ns,
        sent_ns,
        done_ns,
        *outcome[:_SHADOW],
        context.get("override", ""),
        *outcome[_SHADOW:],
    )
