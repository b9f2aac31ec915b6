"""``envoy.service.ext_proc.v3``: picks an endpoint by a request's headers, and learns which one has served."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from envoy.type.v3 import http_status_pb2
from google.protobuf import struct_pb2

from lab.plugins.endpoint_picker.bodies import in_full_duplex, once_readable, passed_on
from lab.plugins.endpoint_picker.contract import (
    DESTINATION,
    NAMESPACE,
    NO_ENDPOINT,
    SERVED,
    SUBSET,
    SUBSET_NAMESPACE,
    as_list,
)
from lab.plugins.endpoint_picker.policy import Endpoint, Order
from lab.routing.headers import PREFILLER, REQUEST_ID
from lab.routing.keys import HEADER

if TYPE_CHECKING:
    import grpc.aio

    from lab.plugins.endpoint_picker.choices import Choice, Choices
    from lab.transport.rpc_logs import RequestLog
    from services.rules import RuleSet

    Context = grpc.aio.ServicerContext[Any, Any]

LOG_FIELDS = ("request_id", "routing_key", "outcome", "picked", "served", "in_flight", "ms")
"""Of a line of the pick log: ``picked`` is the header's text, ``in_flight`` that of the key's endpoints when it was
picked, by address; ``ms`` is the time of the pick."""

PICKED, NO_READY, UNKNOWN_KEY, OUTSIDE_SUBSET = "picked", "no endpoint", "unknown key", "nothing in the subset"
"""Outcomes of a request's headers."""
AS_PICKED, NEXT_IN_LIST, ELSEWHERE, NOT_SAID = "as picked", "next in the list", "elsewhere", "not said"
"""What came of a pick, by what the proxy says at the response."""

_UNAVAILABLE = 14
_BODIES = {"request_body", "response_body"}


@dataclass(slots=True, eq=False)
class Key:
    """A routing key: its endpoints by address, those to which it fails over after the others, and how to order them."""

    order: Order | None
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    standby: dict[str, Endpoint] = field(default_factory=dict)

    def ordered(self, subset: Collection[str] | None) -> list[Endpoint]:
        """The endpoints in the order in which to try them, of a subset if there is one; standbys are the last."""
        found: list[Endpoint] = []
        for its in (self.endpoints, self.standby):
            usable = [each for each in its.values() if subset is None or each.address in subset]
            found += self.order(usable) if usable and self.order else usable
        return found


@dataclass(slots=True, eq=False)
class Request:
    """One request, from its headers to the end of its stream."""

    request_id: str = ""
    routing_key: str = ""
    outcome: str = ""
    picked: tuple[str, ...] = ()
    served: str = ""
    in_flight: Mapping[str, int] = field(default_factory=dict)
    ms: float = 0.0
    holds: Endpoint | None = None
    choice: Choice | None = None

    @property
    def result(self) -> str:
        """What came of the pick; empty without one."""
        if not self.picked:
            return ""
        if not self.served:
            return NOT_SAID
        if self.served not in self.picked:
            return ELSEWHERE
        return AS_PICKED if self.served == self.picked[0] else NEXT_IN_LIST


class PickerService(external_processor_pb2_grpc.ExternalProcessorServicer):  # type: ignore[misc]  # untyped wheel
    """Picks for each request; a request counts as in flight at its endpoint from the pick to the end of its stream.

    Args:
        make_order: makes the order of one routing key, which may keep what it needs between requests; None where
            ``choices`` has a picker that chooses for each request.
        log: takes a line a request, of :data:`LOG_FIELDS`.
        choices: see there.

    Attributes:
        outcomes: requests by outcome.
        results: picks by what came of them.
        body_bytes: of requests and answers that reached this process.
    """

    def __init__(
        self, make_order: Callable[[], Order] | None, log: RequestLog | None = None, choices: Choices | None = None
    ) -> None:
        self._make_order, self._log, self._choices = make_order, log, choices
        self._keys: dict[str, Key] = {}
        self.outcomes: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.body_bytes = 0

    async def put_in_force(self, rules: RuleSet) -> None:
        """Follows the endpoints of a rule set; an endpoint that stays keeps its requests in flight."""
        if self._choices is not None:
            await self._choices.put_in_force(rules)
        known = rules.router.versions.keys() | rules.endpoints.keys()
        self.set_endpoints({key: (rules.endpoints.get(key, ()), rules.standby.get(key, ())) for key in known})

    def set_endpoints(self, by_key: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> None:
        """Sets all keys: their endpoints, and those to fail over to."""
        before, self._keys = self._keys, {}
        for name, (addresses, standby) in by_key.items():
            key = before.get(name) or Key(self._make_order() if self._make_order else None)
            there = {**key.standby, **key.endpoints}
            self._keys[name] = Key(key.order, *(_kept(there, its) for its in (addresses, standby)))

    async def Process(  # noqa: N802 (gRPC's name)
        self, request_iterator: AsyncIterator[messages.ProcessingRequest], context: Context
    ) -> AsyncIterator[messages.ProcessingResponse]:
        """One request's stream."""
        del context
        request, duplex = Request(), False
        try:
            async for message, body_read in once_readable(request_iterator):
                kind, duplex = message.WhichOneof("request"), duplex or in_full_duplex(message)
                if kind == "request_headers":
                    yield self._pick(request, message, body_read)
                elif kind == "response_headers":
                    self._served(request, message)
                    yield messages.ProcessingResponse(response_headers=messages.HeadersResponse())
                elif kind in _BODIES:
                    body: messages.HttpBody = getattr(message, kind)
                    self.body_bytes += len(body.body)
                    yield passed_on(kind, body, duplex=duplex)
                else:
                    if kind == "response_trailers" and request.choice is not None:
                        request.choice.answered(text_of(message.response_trailers.trailers))
                    yield messages.ProcessingResponse(**{kind: messages.TrailersResponse()})
        finally:
            self._done(request)

    def _pick(
        self, request: Request, message: messages.ProcessingRequest, body: bytes | None
    ) -> messages.ProcessingResponse:
        began = time.perf_counter()
        headers = text_of(message.request_headers.headers)
        request.request_id, request.routing_key = headers.get(REQUEST_ID, ""), headers.get(HEADER, "")
        key, subset = self._keys.get(request.routing_key), _subset(message)
        ordered = key.ordered(subset) if key else []
        if ordered and self._choices is not None:
            request.choice = self._choices.choose(
                request.routing_key, [each.address for each in ordered], headers, body
            )
            first = [each for each in ordered if request.choice and each.address == request.choice.address]
            ordered = [*first, *(each for each in ordered if each not in first)] if first else []
        if ordered:
            request.outcome, request.picked = PICKED, tuple(each.address for each in ordered)
            request.in_flight = {each.address: each.in_flight for each in ordered}
            self._hold(request, ordered[0])
            answer = _picked(as_list(request.picked), request.choice.prefiller if request.choice else "")
        elif key is None and subset is None:
            # The proxy may have learnt of a key before this process: its own policy sends the request.
            request.outcome = UNKNOWN_KEY
            answer = messages.ProcessingResponse(request_headers=messages.HeadersResponse())
        else:
            request.outcome = NO_READY if subset is None else OUTSIDE_SUBSET
            answer = _unavailable(request.outcome)
        request.ms = (time.perf_counter() - began) * 1_000
        self.outcomes[request.outcome] += 1
        return answer

    def _served(self, request: Request, message: messages.ProcessingRequest) -> None:
        """Takes in where the request was served; an endpoint other than the first pick then holds it."""
        said = message.metadata_context.filter_metadata.get(NAMESPACE)
        request.served = said.fields[SERVED].string_value if said is not None and SERVED in said.fields else ""
        if request.choice is not None:
            request.choice.served_by(request.served)
            request.choice.answered(text_of(message.response_headers.headers))
        key = self._keys.get(request.routing_key)
        if request.result in (NEXT_IN_LIST, ELSEWHERE) and key is not None:
            self._hold(request, key.endpoints.get(request.served) or key.standby.get(request.served))

    def _hold(self, request: Request, endpoint: Endpoint | None) -> None:
        if request.holds is not None:
            request.holds.in_flight -= 1
        request.holds = endpoint
        if endpoint is not None:
            endpoint.in_flight += 1

    def _done(self, request: Request) -> None:
        self._hold(request, None)
        if request.choice is not None:
            request.choice.end()
        if request.result:
            self.results[request.result] += 1
        if self._log is not None and request.outcome:
            self._log.write(
                request.request_id,
                request.routing_key,
                request.outcome,
                as_list(request.picked),
                request.served,
                request.in_flight,
                request.ms,
            )


def text_of(headers: base_pb2.HeaderMap) -> dict[str, str]:
    """Headers by name."""
    return {each.key: each.value or each.raw_value.decode("utf-8", "replace") for each in headers.headers}


def _kept(there: Mapping[str, Endpoint], addresses: Sequence[str]) -> dict[str, Endpoint]:
    return {each: there.get(each) or Endpoint(each) for each in sorted(addresses)}


def _subset(message: messages.ProcessingRequest) -> frozenset[str] | None:
    """The endpoints within which to pick; None if the request names none."""
    hint = message.metadata_context.filter_metadata.get(SUBSET_NAMESPACE)
    if hint is None or SUBSET not in hint.fields:
        return None
    return frozenset(each.string_value for each in hint.fields[SUBSET].list_value.values)


def _picked(endpoints: str, prefiller: str) -> messages.ProcessingResponse:
    option = base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=DESTINATION, raw_value=endpoints.encode()),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    mutation = messages.HeaderMutation(set_headers=[option])
    if prefiller:
        mutation.set_headers.add(header=base_pb2.HeaderValue(key=PREFILLER, raw_value=prefiller.encode()))
    metadata = struct_pb2.Struct()
    metadata.get_or_create_struct(NAMESPACE)[DESTINATION] = endpoints
    return messages.ProcessingResponse(
        request_headers=messages.HeadersResponse(response=messages.CommonResponse(header_mutation=mutation)),
        dynamic_metadata=metadata,
    )


def _unavailable(reason: str) -> messages.ProcessingResponse:
    return messages.ProcessingResponse(
        immediate_response=messages.ImmediateResponse(
            status=http_status_pb2.HttpStatus(code=NO_ENDPOINT),
            grpc_status=messages.GrpcStatus(status=_UNAVAILABLE),
            body=f"the picker has {reason}".encode(),
            details=reason.replace(" ", "_"),
        )
    )
