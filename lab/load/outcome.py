"""The outcome of each request, and its record: made, spooled and counted."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lab.history import NONE_SEEN, UNSENT
from lab.load.clocks import unix_offset_ns
from models.apis import APIS
from models.context import origin_name

if TYPE_CHECKING:
    from lab.client import Answer
    from lab.errors import CallError
    from lab.history import SpoolWriter
    from lab.load.mix import RequestSpec
    from models.apis import Api
    from models.proto.serving.v1 import serving_pb2


class LoadClient(Protocol):
    """The client that requests are sent through; :class:`lab.client.Client` is one."""

    @property
    def copies_dropped(self) -> int:
        """Number of shadow copies that it did not send, as too many were in flight."""

    async def ready(self) -> None:
        """Returns once requests can be sent."""

    async def call(self, use_case: str, request: Any, context: Mapping[str, str], *, request_id: str) -> Answer:
        """Sends one request. Fills and serialises ``request`` without yielding, so that calls may share it.

        Raises:
            CallError: it failed.
        """

    def stream(
        self, use_case: str, request: Any, context: Mapping[str, str], *, request_id: str
    ) -> AsyncIterator[Answer]:
        """Sends one request, as :meth:`call` does, and yields an answer for each item."""

    async def close(self) -> None:
        """Closes all connections."""


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


# In a record, the request's `override` stands before the outcome's `shadow`.
_SHADOW = Outcome._fields.index("shadow")
_drawn = itemgetter("user_id", "device", "country", "segment", "surface", "tenant", "traffic_origin")

NEVER_SENT = Outcome(UNSENT, "the driver was stopped before its turn", attempts=0)


def answered(answer: Answer, api: Api) -> Outcome:
    """The outcome of a request that was answered, by a model or by default; takes the response apart.

    The digest of its items is BLAKE2b, 8 bytes, over a line of each: id and score, separated by NUL.
    """
    response = answer.response
    by = response.answered_by
    # The rest is the same in each answer of a model version to a user.
    response.ClearField("answered_by")
    return _outcome(answer, by, *_items(api.name, response.SerializeToString()))


@lru_cache(maxsize=4_096)
def _items(api_name: str, raw: bytes) -> tuple[str, float, str]:
    """Id and score of the first item, and the digest of all."""
    api = APIS[api_name]
    items = api.items(api.unary.response_class.FromString(raw))
    lines = "".join([f"{item_id}\0{score!r}\n" for item_id, score in items])
    digest = blake2b(lines.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return *(items[0] if items else ("", 0.0)), digest


def _outcome(answer: Answer, by: serving_pb2.AnsweredBy, item_id: str, score: float, items_digest: str = "") -> Outcome:
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
        self._item_of, self._sent_ns = api.streamed_item, sent_ns
        self._ids: list[str] = []
        self._digest = blake2b(digest_size=8)
        self._first: Outcome | None = None
        self._first_item_ns = 0

    def add(self, answer: Answer) -> None:
        """Adds the next item."""
        item_id, score = self._item_of(answer.response)
        if self._first is None:
            self._first_item_ns = monotonic_ns() - self._sent_ns
            self._first = _outcome(answer, answer.response.answered_by, item_id, score)
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


class Recorder:
    """Records the history of one run.

    Args:
        topology: of all its records.
        spool: takes the records.
        on_error: called once with the error if the spool cannot be written; later records are lost.

    Attributes:
        done: requests that were sent and are done.
        ok: how many of those were answered.
        schedule_delays_ns: how late each of those was sent.
        error: why the spool cannot be written, None if it can.
        unix_offset_ns: offset of Unix time to ``time.monotonic_ns``. It is fixed for the run, so that a change of the
            clock affects no record. Processes that share a run agree on it beforehand.
    """

    def __init__(self, topology: str, spool: SpoolWriter, on_error: Callable[[OSError], None]) -> None:
        self._topology, self._spool, self._on_error = topology, spool, on_error
        self.unix_offset_ns = unix_offset_ns()
        self._recent_ns: list[int] = []
        self.done = self.ok = 0
        self.schedule_delays_ns = array("q")
        self.error: OSError | None = None

    def keep(
        self,
        sequence: int,
        spec: RequestSpec,
        outcome: Outcome,
        *,
        payload_bytes: int,
        intended_ns: int,
        sent_ns: int = 0,
        done_ns: int = 0,
        request_id: str = "",
    ) -> None:
        """Records one request; times are on ``time.monotonic_ns``, 0 if it was never sent."""
        unix, context = self.unix_offset_ns, spec.context
        # Not by a Record: to make one takes longer than all else here.
        values = (
            sequence,
            request_id,
            self._topology,
            context["caller"],
            spec.use_case.name,
            *_drawn(context),
            payload_bytes,
            intended_ns + unix,
            sent_ns and sent_ns + unix,
            done_ns and done_ns + unix,
            *outcome[:_SHADOW],
            context.get("override", ""),
            *outcome[_SHADOW:],
        )
        if sent_ns:
            self.done += 1
            self.ok += (answered := outcome.status == "OK")
            self.schedule_delays_ns.append(sent_ns - intended_ns)
            if answered and not outcome.streamed:
                self._recent_ns.append(done_ns - intended_ns)
        try:
            self._spool.append(values)
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        """Writes all records kept so far to the file."""
        try:
            self._spool.flush()
        except OSError as error:
            self._fail(error)

    def take_recent_ns(self) -> list[int]:
        """Latencies, from the intended times, of the requests answered since the last call, without streams."""
        recent, self._recent_ns = self._recent_ns, []
        return recent

    def _fail(self, error: OSError) -> None:
        if self.error is None:
            self.error = error
            self._on_error(error)
