"""Every check of a picker passes on the lab's own and on one in full duplex, and fails on one with its bug."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from lab.pickers import PICKERS
from lab.plugins.conform import Result, Target
from lab.plugins.conform.profile import ProfileOptions
from lab.plugins.endpoint_picker.bodies import passed_on
from lab.plugins.endpoint_picker.conformance import picker_profile
from lab.plugins.endpoint_picker.conformance.picker_profile import CHECKS, run
from lab.plugins.endpoint_picker.conformance.scripted import Pick
from lab.plugins.endpoint_picker.contract import HEALTH_SERVICES, SUBSET, SUBSET_NAMESPACE
from lab.plugins.endpoint_picker.policy import order_of
from lab.plugins.endpoint_picker.service import PickerService

POOL = ("10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000")
KEY = "rows.v1"


class DuplexPicker(external_processor_pb2_grpc.ExternalProcessorServicer):  # type: ignore[misc]  # untyped wheel
    """As the pickers of Kubernetes' inference gateways: it answers the headers at the end of the body."""

    def __init__(self, bug: str = "") -> None:
        self.bug, self.turn, self.busy = bug, 0, 0

    async def Process(self, request_iterator: Any, context: Any) -> AsyncIterator[messages.ProcessingResponse]:  # noqa: N802
        del context
        self.busy += 1
        headers, parts = messages.ProcessingRequest(), []
        async for message in request_iterator:
            kind = message.WhichOneof("request")
            if kind == "request_headers":
                headers = message
                if not message.request_headers.end_of_stream:
                    continue
            elif kind == "request_body":
                parts.append(message.request_body)
                if not message.request_body.end_of_stream:
                    continue
            else:
                heard = messages.ProcessingResponse(response_headers=messages.HeadersResponse())
                other = messages.ProcessingResponse(response_trailers=messages.TrailersResponse())
                yield other if self.bug == "deaf" else heard
                continue
            if self.bug == "one at a time" and self.busy > 1:
                await asyncio.Event().wait()
            yield self._answer(headers)
            for each in parts:
                if self.bug == "loses bodies":
                    each = messages.HttpBody(body=b"{}", end_of_stream=each.end_of_stream)  # noqa: PLW2901
                elif self.bug == "ends twice":
                    each.end_of_stream = True
                yield passed_on("request_body", each, duplex=True)
        self.busy -= 1

    def _answer(self, message: messages.ProcessingRequest) -> messages.ProcessingResponse:
        hint = message.metadata_context.filter_metadata.get(SUBSET_NAMESPACE)
        pool: tuple[str, ...] = POOL
        if hint is not None and self.bug != "no subset":
            named = {each.string_value for each in hint.fields[SUBSET].list_value.values}
            pool = tuple(each for each in POOL if each in named)
        if not pool:
            immediate = messages.ImmediateResponse()
            immediate.status.code = 404 if self.bug == "other code" else 503
            return messages.ProcessingResponse(immediate_response=immediate)
        self.turn += 1
        picked = pool[self.turn % len(pool)]
        if self.bug == "no port":
            picked = picked.partition(":")[0]
        answer = Pick(picked, POOL[0] if self.bug == "differs" else None).message()
        if self.bug == "no metadata":
            answer.ClearField("dynamic_metadata")
        return answer


@asynccontextmanager
async def serving(picker: Any, *, without: str = "") -> AsyncIterator[str]:
    """The picker, with the health services of the contract but for one."""
    server, healthy = grpc.aio.server(), health.aio.HealthServicer()
    external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(picker, server)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    for service in HEALTH_SERVICES:
        if service != without:
            await healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def results_of(picker: Any, *checks: str, without: str = "") -> dict[str, Result]:
    async with serving(picker, without=without) as address:
        options = ProfileOptions(header="x-routing-key", checks=checks, send={"x-routing-key": KEY})
        return {each.feature: each for each in await run(Target.of(address), options)}


def own() -> PickerService:
    picker = PickerService(lambda: order_of(PICKERS["least-request"]))
    picker.set_endpoints({KEY: (POOL, ())})
    return picker


@pytest.mark.parametrize("make", [own, DuplexPicker])
async def test_a_picker_that_keeps_the_contract_passes(make: Any) -> None:
    results = await results_of(make())
    assert {name: (each.verdict, each.reason) for name, each in results.items()} == dict.fromkeys(CHECKS, ("pass", ""))


MUTANTS = {
    "differs": "pick",
    "no metadata": "pick",
    "no port": "pick",
    "loses bodies": "full-duplex",
    "ends twice": "full-duplex",
    "no subset": "picks-in-subset",
    "other code": "picks-in-subset",
    "deaf": "told-served",
    "one at a time": "at-once",
}


@pytest.mark.parametrize(("bug", "check"), MUTANTS.items())
async def test_a_bug_is_caught_by_the_check_meant_for_it(bug: str, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picker_profile, "ANSWERS_WITHIN_S", 1.0)
    [result] = (await results_of(DuplexPicker(bug), check)).values()
    assert (result.verdict, bool(result.reason)) == ("fail", True), result


class Leaking(DuplexPicker):
    """Of each request that its client gives up, it keeps a place for ever."""

    async def Process(self, request_iterator: Any, context: Any) -> AsyncIterator[messages.ProcessingResponse]:  # noqa: N802
        del context
        if self.busy > 32:
            await asyncio.Event().wait()
        self.busy += 1
        async for message in request_iterator:
            yield self._answer(message)
            self.busy -= 1


async def test_a_picker_that_keeps_what_is_cut_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picker_profile, "ANSWERS_WITHIN_S", 1.0)
    assert (await results_of(Leaking(), "cut"))["cut"].verdict == "fail"


@pytest.mark.parametrize("service", HEALTH_SERVICES)
async def test_each_health_service_is_asked(service: str) -> None:
    result = (await results_of(own(), "health", without=service))["health"]
    assert (result.verdict, repr(service) in result.reason) == ("fail", True)


def test_every_check_has_a_mutant() -> None:
    assert {*MUTANTS.values(), "cut", "health"} == set(CHECKS)
