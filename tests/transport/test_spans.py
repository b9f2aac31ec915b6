"""Spans of RPCs: what gets one, what it says, and who its parent is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from lab.errors import InputError
from lab.transport import listen, new_server, open_channel, trace_settings, tracing
from lab.transport.trace_settings import MAX_ATTRIBUTE_CHARACTERS, TraceSettings
from tests.transport.recorder import Recorder
from tests.waiting import eventually

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = f"{PARENT[:-2]}00"
ECHO, STREAM = "/test.Echo/Echo", "/test.Echo/Stream"
RESOLVE, WATCH = "/control.v1.Resolver/Resolve", "/control.v1.Resolver/Watch"


@asynccontextmanager
async def echoing() -> AsyncIterator[str]:
    """The address of a server that answers each request with the ``traceparent`` that it got."""

    async def echo(request: bytes, context: Any) -> bytes:
        if request == b"abort":
            await context.abort(grpc.StatusCode.INTERNAL, "as asked")
        received: str = dict(context.invocation_metadata()).get("traceparent", "")
        return received.encode()

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await echo(request, context)

    unary: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
    streaming: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(stream)
    handlers = [
        grpc.method_handlers_generic_handler("test.Echo", {"Echo": unary, "Stream": streaming}),
        grpc.method_handlers_generic_handler("control.v1.Resolver", {"Resolve": unary, "Watch": streaming}),
    ]
    server, _ = new_server(handlers=handlers)
    port = listen(server, "127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def ask(address: str, method: str, *headers: tuple[str, str], body: bytes = b"") -> bytes:
    """The answer of an RPC; the first item of a stream."""
    async with open_channel(address) as channel:
        if method in (ECHO, RESOLVE):
            unary: Any = channel.unary_unary(method)
            answer: bytes = await unary(body, metadata=headers, timeout=5)
            return answer
        stream: Any = channel.unary_stream(method)
        [item] = [item async for item in stream(body, metadata=headers, timeout=5)]
        return bytes(item)


def is_sampled(traceparent: bytes) -> bool:
    return bool(int(traceparent.split(b"-")[-1], 16) & 1)


def shape(spans: list[ReadableSpan]) -> list[tuple[str, str]]:
    return sorted((span.kind.name, span.name) for span in spans)


async def test_a_request_an_rpc_and_its_server_are_one_trace(recorder: Recorder) -> None:
    async with echoing() as address:
        with tracing.request_span("UpNext", "r-1") as span, span.current():
            received = await ask(address, ECHO, ("x-request-id", "r-1"), ("x-routing-key", "up-next.v1"))
            await ask(address, STREAM)
            span.describe(routing_key="up-next.v1", revision=7)

    spans = recorder.finished()
    assert shape(spans) == [
        ("CLIENT", "test.Echo/Echo"),
        ("CLIENT", "test.Echo/Stream"),
        ("INTERNAL", "call UpNext"),
        ("SERVER", "test.Echo/Echo"),
        ("SERVER", "test.Echo/Stream"),
    ]
    by_shape = {(span.kind.name, span.name): span for span in spans}
    request, client, server = (
        by_shape[key]
        for key in (("INTERNAL", "call UpNext"), ("CLIENT", "test.Echo/Echo"), ("SERVER", "test.Echo/Echo"))
    )
    assert client.parent is not None
    assert client.parent.span_id == request.context.span_id
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id
    assert received.decode().startswith(f"00-{client.context.trace_id:032x}-{client.context.span_id:016x}-")
    assert is_sampled(received)
    host, port = address.split(":")
    assert dict(client.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": "test.Echo/Echo",
        "server.address": host,
        "server.port": int(port),
        "lab.request_id": "r-1",
        "lab.routing_key": "up-next.v1",
        "rpc.response.status_code": "OK",
    }
    assert dict(request.attributes or {}) == {
        "lab.use_case": "UpNext",
        "lab.request_id": "r-1",
        "lab.routing_key": "up-next.v1",
        "lab.revision": 7,
    }


async def test_an_rpc_outside_of_a_request_has_no_client_span(recorder: Recorder) -> None:
    async with echoing() as address:
        assert await ask(address, ECHO) == b""

    assert shape(recorder.finished()) == [("SERVER", "test.Echo/Echo")]


async def test_only_requests_have_spans_and_no_endless_stream_has(recorder: Recorder) -> None:
    async with echoing() as address:
        await ask(address, RESOLVE)
        with tracing.request_span("UpNext", "r-1") as span, span.current():
            await ask(address, WATCH)
            await ask(address, RESOLVE)

    assert shape(recorder.finished()) == [
        ("CLIENT", "control.v1.Resolver/Resolve"),
        ("INTERNAL", "call UpNext"),
        ("SERVER", "control.v1.Resolver/Resolve"),
    ]


@pytest.mark.parametrize("recorder", [0.0], indirect=True)
async def test_a_sampled_parent_is_followed_where_nothing_else_is_traced(recorder: Recorder) -> None:
    async with echoing() as address:
        await ask(address, ECHO)
        with tracing.request_span("UpNext", "r-1") as span, span.current():
            received = await ask(address, ECHO)
        await ask(address, ECHO, ("traceparent", PARENT))

    assert not is_sampled(received)
    [made] = recorder.finished()
    assert made.parent is not None
    assert f"{made.parent.trace_id:032x}" == PARENT.split("-")[1]


@pytest.mark.parametrize("header", [UNSAMPLED, "00-not-a-parent-01", "~~~", "0" * 4_000])
async def test_a_parent_that_is_not_sampled_or_not_valid(recorder: Recorder, header: str) -> None:
    async with echoing() as address:
        await ask(address, ECHO, ("traceparent", header))

    assert len(recorder.finished()) == (header != UNSAMPLED)


async def test_a_failure_is_an_error_of_client_and_server(recorder: Recorder) -> None:
    async with echoing() as address:
        with tracing.request_span("UpNext", "r-1") as span, span.current(), pytest.raises(grpc.aio.AioRpcError):
            await ask(address, ECHO, body=b"abort")

    def rpcs() -> list[ReadableSpan]:
        return [span for span in recorder.finished() if span.kind.name != "INTERNAL"]

    # `abort` sends the status before it raises: the server's span may end after the client has its answer.
    failed = await eventually("client and server have ended their spans", rpcs, until=lambda spans: len(spans) == 2)
    assert [dict(span.attributes or {})["rpc.response.status_code"] for span in failed] == ["INTERNAL"] * 2
    assert [span.status.status_code.name for span in failed] == ["ERROR"] * 2


async def test_texts_of_a_request_are_shortened_and_escaped(recorder: Recorder) -> None:
    with tracing.request_span("\x1b[31m" + "x" * 10_000, "\r\n" * 5_000) as span:
        span.describe(routing_key="\u202e" * 1_000, revision=1)
    async with echoing() as address:
        await ask(address, ECHO, ("x-request-id", "y" * 10_000))

    for made in recorder.finished():
        texts = [made.name, *(str(value) for value in dict(made.attributes or {}).values())]
        assert max(map(len, texts)) <= MAX_ATTRIBUTE_CHARACTERS
        assert all(text.isprintable() for text in texts)


async def test_nothing_is_added_where_traces_are_off() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        assert type(channel).__module__.startswith("grpc.")
    assert tracing.server_interceptors() == ()
    with tracing.request_span("UpNext", "r-1") as first, tracing.request_span("UpNext", "r-2") as second:
        assert first is second


def test_units_import_opentelemetry_only_where_traces_are_on() -> None:
    units = ["services.caller", "services.gateway", "services.resolver", "services.controlplane", "models.stub"]
    program = (
        f"import importlib, sys; [importlib.import_module(f'{{each}}.__main__') for each in {units}]; "
        "from lab.transport import tracing; tracing.start(); print(*{each.split('.')[0] for each in sys.modules})"
    )

    imported = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert "grpc" in imported.split()
    assert "opentelemetry" not in imported.split()


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    trace_settings.require_packages()
    monkeypatch.setattr(trace_settings, "find_spec", lambda _name: None)

    with pytest.raises(InputError, match=r"opentelemetry is not installed: make \.venv/with-traces"):
        trace_settings.require_packages()


def test_settings_pass_through_the_environment() -> None:
    settings = TraceSettings(endpoint="127.0.0.1:4317", peer="collector", rate=0.01, service="model", unit="model-a")

    assert TraceSettings.of(settings.to_environment()) == settings
    assert TraceSettings.of({}) is None
