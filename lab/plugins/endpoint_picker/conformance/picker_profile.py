"""The profile ``picker``: any endpoint picker, asked as a gateway asks it, by headers alone and in full duplex."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.errors import UnitError
from lab.plugins.conform.check import Check, Finding, Result, failed, passed, unknown
from lab.plugins.conform.profile import Profile, ProfileOptions
from lab.plugins.endpoint_picker.bodies import FULL_DUPLEX
from lab.plugins.endpoint_picker.conformance.gateway_profile import chosen
from lab.plugins.endpoint_picker.contract import (
    DESTINATION,
    HEALTH_SERVICES,
    NAMESPACE,
    NO_ENDPOINT,
    SERVED,
    SUBSET,
    SUBSET_NAMESPACE,
    in_list,
)

if TYPE_CHECKING:
    from lab.plugins.conform.target import Target

ANSWERS_WITHIN_S = 5.0
"""Time for all of a request."""
BODY = b'{"model": "conform", "prompt": "Which replica?", "max_tokens": 1}'
"""Of requests with one, unless the command line has another."""
_NOBODY = "192.0.2.1:1"  # RFC 5737: of documentation
_ENDPOINT = re.compile(r"\d{1,3}(\.\d{1,3}){3}:\d{1,5}|\[[0-9a-fA-F:.]+\]:\d{1,5}")
_REQUESTS, _AT_ONCE, _PART = 10, 64, 20_000
_MOST_PART = 65_536
"""Bytes of a part of a body that Envoy accepts in full duplex."""


@dataclass(slots=True)
class Said:
    """What a picker said of one request.

    Attributes:
        header: value of the endpoint header; empty without one.
        metadata: the same of the metadata.
        code: HTTP status of an immediate answer; 0 without one.
        parts: of the body, as it came back.
        ended: how many of them were the last one.
        told: whether it answered the response's headers.
    """

    header: str = ""
    metadata: str = ""
    code: int = 0
    parts: list[bytes] = field(default_factory=list)
    ended: int = 0
    told: bool = False

    @property
    def picked(self) -> tuple[str, ...]:
        """The endpoints, in order."""
        return in_list(self.header)

    def __str__(self) -> str:
        return f"HTTP {self.code} at once" if self.code else f"the pick {self.header or 'of nothing'}"


@dataclass(frozen=True, slots=True)
class PickerStage:
    """Asks the picker."""

    channel: grpc.aio.Channel
    headers: Mapping[str, str]
    body: bytes

    async def ask(
        self, *, subset: Sequence[str] | None = None, body: bytes | None = None, served: bool = False
    ) -> Said:
        """One request.

        Args:
            subset: within which to pick; None for none.
            body: sent in full duplex; None for a request that ends with its headers.
            served: whether to say, at the response, that the first endpoint has served.

        Raises:
            UnitError: it does not answer, or not in time.
        """
        said = Said()
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                call = external_processor_pb2_grpc.ExternalProcessorStub(self.channel).Process()
                try:
                    await self._exchange(call, said, subset, body, served=served)
                finally:
                    call.cancel()
        except TimeoutError:
            raise UnitError(f"no whole answer within {ANSWERS_WITHIN_S:g} s; so far {said}") from None
        except grpc.aio.AioRpcError as error:
            raise UnitError(f"the stream ended: {error.code().name} ({error.details()})") from None
        return said

    async def _exchange(
        self,
        call: Any,
        said: Said,
        subset: Sequence[str] | None,
        body: bytes | None,
        *,
        served: bool,
    ) -> None:
        for message in _request(self.headers, subset, body):
            await call.write(message)
        answered = False
        while not said.code and not (answered and (body is None or said.ended)):
            answer = await call.read()
            if answer is grpc.aio.EOF:
                raise UnitError(f"it ended the stream after {said}")
            answered = answered or answer.WhichOneof("response") == "request_headers"
            _take(answer, said)
        if served and said.picked:
            message = messages.ProcessingRequest(response_headers=messages.HttpHeaders())
            message.response_headers.headers.headers.add(key=":status", raw_value=b"200")
            message.metadata_context.filter_metadata[NAMESPACE].update({SERVED: said.picked[0]})
            await call.write(message)
            answer = await call.read()
            said.told = answer is not grpc.aio.EOF and answer.WhichOneof("response") == "response_headers"

    async def close(self) -> None:
        """Closes the channel."""
        await self.channel.close()


def _request(
    headers: Mapping[str, str], subset: Sequence[str] | None, body: bytes | None
) -> Sequence[messages.ProcessingRequest]:
    """The messages of a request, as Envoy sends them."""
    first = messages.ProcessingRequest(request_headers=messages.HttpHeaders(end_of_stream=body is None))
    for name, value in headers.items():
        first.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    if subset is not None:
        first.metadata_context.filter_metadata[SUBSET_NAMESPACE].update({SUBSET: list(subset)})
    if body is None:
        return [first]
    first.protocol_config.request_body_mode = FULL_DUPLEX
    first.protocol_config.response_body_mode = FULL_DUPLEX
    parts = [body[start : start + _PART] for start in range(0, len(body), _PART)] or [b""]
    last = len(parts) - 1
    return [
        first,
        *(
            messages.ProcessingRequest(request_body=messages.HttpBody(body=part, end_of_stream=number == last))
            for number, part in enumerate(parts)
        ),
    ]


def _take(answer: messages.ProcessingResponse, said: Said) -> None:
    kind = answer.WhichOneof("response")
    if kind == "immediate_response":
        said.code = answer.immediate_response.status.code
    elif kind == "request_headers":
        for each in answer.request_headers.response.header_mutation.set_headers:
            if each.header.key.lower() == DESTINATION:
                said.header = each.header.value or each.header.raw_value.decode("utf-8", "replace")
    elif kind == "request_body":
        part = answer.request_body.response.body_mutation.streamed_response
        said.parts.append(part.body)
        said.ended += part.end_of_stream
    if NAMESPACE in answer.dynamic_metadata.fields:
        its = answer.dynamic_metadata.fields[NAMESPACE].struct_value.fields
        said.metadata = its[DESTINATION].string_value if DESTINATION in its else said.metadata


async def _health(stage: PickerStage) -> Finding:
    check = health_pb2_grpc.HealthStub(stage.channel).Check
    for service in HEALTH_SERVICES:
        try:
            answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=ANSWERS_WITHIN_S)
        except grpc.aio.AioRpcError as error:
            return failed(f"health service {service!r}: {error.code().name}; is it at another port?")
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            return failed(f"health service {service!r} says {status}, and must say SERVING of a picker that is ready")
    return passed(services=len(HEALTH_SERVICES))


async def _pick(stage: PickerStage) -> Finding:
    endpoints: set[str] = set()
    for _ in range(_REQUESTS):
        said = await stage.ask()
        if problem := _wrong(said):
            return failed(problem)
        endpoints |= {*said.picked}
    return passed(requests=_REQUESTS, endpoints=len(endpoints))


def _wrong(said: Said) -> str:
    """What is wrong with a pick; empty if nothing is."""
    if said.code or not (said.header or said.metadata):
        return f"there was {said}: does it know the pool? --send may have the headers that it goes by"
    if said.header != said.metadata:
        return (
            f"the header says {said.header or 'nothing'}, the metadata {said.metadata or 'nothing'}; both must be equal"
        )
    wrong = [each for each in said.header.split(",") if not _ENDPOINT.fullmatch(each)]
    return f"{wrong[0]!r} is not of the form ip:port" if wrong else ""


async def _full_duplex(stage: PickerStage) -> Finding:
    long = stage.body + b" " * (3 * _PART)
    for body in (stage.body, long):
        said = await stage.ask(body=body)
        if problem := _wrong(said):
            return failed(problem)
        if b"".join(said.parts) != body:
            return failed(f"a body of {len(body)} bytes came back as {sum(map(len, said.parts))} other ones")
        if said.ended != 1 or max(map(len, said.parts)) > _MOST_PART:
            return failed(f"the last part came {said.ended} times, or a part has more than {_MOST_PART} bytes")
    return passed(bytes=len(long))


async def _subset(stage: PickerStage) -> Finding:
    known = {each for _ in range(_REQUESTS) for each in (await stage.ask()).picked}
    if not known:
        return unknown("without a subset it picks nothing")
    for wanted in sorted(known):
        said = await stage.ask(subset=[_NOBODY, wanted])
        if said.picked != (wanted,):
            return failed(f"of the subset {wanted} there was {said}")
        if problem := _wrong(said):
            return failed(problem)
    for subset in ([_NOBODY], []):
        said = await stage.ask(subset=subset)
        if said.code != NO_ENDPOINT:
            return failed(f"of a subset without an endpoint of its pool there was {said}, and must be {NO_ENDPOINT}")
    return passed(endpoints=len(known))


async def _served(stage: PickerStage) -> Finding:
    said = await stage.ask(served=True)
    if problem := _wrong(said):
        return failed(problem)
    return passed() if said.told else failed("it does not answer the headers of a response that say who has served")


async def _at_once(stage: PickerStage) -> Finding:
    began = time.monotonic()
    answers = await asyncio.gather(*(stage.ask() for _ in range(_AT_ONCE)))
    if problem := next(filter(None, map(_wrong, answers)), ""):
        return failed(problem)
    return passed(requests=_AT_ONCE, ms=round(1e3 * (time.monotonic() - began)))


async def _cut(stage: PickerStage) -> Finding:
    stub = external_processor_pb2_grpc.ExternalProcessorStub(stage.channel)
    [first, *_] = _request(stage.headers, None, stage.body)
    for _ in range(_AT_ONCE):  # half a request each: the client has gone
        call = stub.Process()
        await call.write(first)
        call.cancel()
    problem = _wrong(await stage.ask())
    return failed(f"after {_AT_ONCE} requests that were cut, {problem}") if problem else passed(cut=_AT_ONCE)


def _check(name: str, claim: str, run: Callable[[PickerStage], Awaitable[Finding]]) -> Check:
    return Check(name=name, claim=claim, run=run)  # type: ignore[arg-type] # of another stage


CHECKS = {
    each.name: each
    for each in (
        _check("health", "its health services are those that gateways and Kubernetes ask", _health),
        _check("pick", "each pick is ip:port, in header and metadata, which are equal", _pick),
        _check("full-duplex", "a body in full duplex is picked for, and comes back as it was", _full_duplex),
        _check("picks-in-subset", "it picks inside the subset, and answers 503 without one of its endpoints", _subset),
        _check("told-served", "it takes in which endpoint has served", _served),
        _check("at-once", "it picks for many requests at once", _at_once),
        _check("cut", "requests that are cut halfway do it no harm", _cut),
    )
}
"""All checks, by name."""


async def run(
    target: Target,
    options: ProfileOptions,
    *,
    say: Callable[[str], None] = lambda _: None,
    on_result: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Tries one check after the other; nothing is started."""
    checks = chosen(options.checks, CHECKS)
    (await target.connect()).close()
    headers = {":method": "POST", ":path": "/v1/completions", "content-type": "application/json", **options.send}
    stage, results = PickerStage(target.channel(), headers, options.body or BODY), []
    try:
        for check in checks:
            say(f"{check.name}: {check.claim}")
            began = time.monotonic()
            try:
                finding = await check.run(stage)  # type: ignore[arg-type] # as above
            except UnitError as error:
                finding = failed(str(error))
            result = Result.of(check, finding, began)
            results.append(result)
            on_result(result)
    finally:
        await stage.close()
    return results


PROFILE = Profile(name="picker", line="an endpoint picker by itself, asked as a gateway asks it", run=run)
