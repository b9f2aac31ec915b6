"""Metrics over HTTP, and the counts of a server's RPCs."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.trace import format_trace_id

from lab.errors import UnitError
from lab.transport import expose, listen, metrics, new_server, open_channel, serve_metrics, tracing
from tests.ports import free_port
from tests.transport.recorder import Recorder
from tests.waiting import eventually

SERVICE = "shop.v1.Shop"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
LABELS = {"grpc_service": SERVICE, "grpc_type": "unary"}


async def buy(request: bytes, context: Any) -> bytes:
    if request == b"no":
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
    if request == b"bug":
        raise ZeroDivisionError
    if request == b"never":
        await asyncio.Event().wait()
    return request


async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield request
    if request == b"no":
        await context.abort(grpc.StatusCode.NOT_FOUND, "no")


async def write(request: bytes, context: Any) -> None:
    await context.write(request)


HANDLERS: dict[str, Any] = {
    "Buy": grpc.unary_unary_rpc_method_handler(buy),
    "Stream": grpc.unary_stream_rpc_method_handler(stream),
    "Write": grpc.unary_stream_rpc_method_handler(write),
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of this process's metrics."""
    monkeypatch.setattr(metrics, "_registry", None)
    port, servers = free_port(), []
    new = metrics.MetricsServer
    monkeypatch.setattr(metrics, "MetricsServer", lambda *given: servers.append(new(*given)))
    serve_metrics(f"127.0.0.1:{port}")
    yield port
    for server in servers:
        server.close()


def get(port: int, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers=headers)
    with closing(connection), connection.getresponse() as response:
        return response.status, response.read().decode()


def values(port: int, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
    """The values of a metric, by those labels that are not given."""
    found = {}
    for given, value in re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", get(port)[1], re.MULTILINE):
        each = dict(re.findall(r'(\w+)="([^"]*)"', given))
        if labels.items() <= each.items():
            found[frozenset(each.items() - labels.items())] = float(value)
    return found


def handled(port: int, method: str, side: str = "server", **labels: str) -> dict[str, float]:
    """How many RPCs of a method ended, by status."""
    by_code = values(port, f"grpc_{side}_handled_total", **{**LABELS, "grpc_method": method, **labels})
    return {dict(each)["grpc_code"]: value for each, value in by_code.items()}


@asynccontextmanager
async def shop_at() -> AsyncIterator[str]:
    """The address of a shop."""
    server, _ = new_server(handlers=[grpc.method_handlers_generic_handler(SERVICE, HANDLERS)])
    port = listen(server, "127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@asynccontextmanager
async def shop() -> AsyncIterator[Any]:
    """A channel to a shop, which counts nothing."""
    async with shop_at() as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


async def test_an_rpc_counts_by_the_status_that_its_client_sees(served: int) -> None:
    async with shop() as channel:
        call = channel.unary_unary(f"/{SERVICE}/Buy")
        await call(b"yes")
        await call(b"yes")
        for request in (b"no", b"bug"):
            with pytest.raises(grpc.aio.AioRpcError):
                await call(request)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"never", timeout=0.1)
        cancelled = call(b"never")
        await eventually(
            "six calls began",
            lambda: sum(values(served, "grpc_server_started_total", grpc_method="Buy").values()),
            until=lambda seen: seen == 6,
        )
        cancelled.cancel()
        counts = await eventually(
            "six calls ended", lambda: handled(served, "Buy"), until=lambda seen: sum(seen.values()) == 6
        )

    assert counts == {"OK": 2, "PermissionDenied": 1, "Unknown": 1, "DeadlineExceeded": 1, "Canceled": 1}
    assert list(values(served, "grpc_server_handling_seconds_count", grpc_method="Buy").values()) == [6]


async def test_a_call_counts_at_its_client_by_its_status(served: int) -> None:
    async with shop_at() as address, open_channel(address) as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/Buy")
        stream_of: Any = channel.unary_stream(f"/{SERVICE}/Stream")
        await call(b"yes")
        for request in (b"no", b"bug"):
            with pytest.raises(grpc.aio.AioRpcError):
                await call(request)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"never", timeout=0.1)
        call(b"never").cancel()
        assert [each async for each in stream_of(b"yes")] == [b"yes"]
        counts = await eventually(
            "five calls ended",
            lambda: handled(served, "Buy", side="client"),
            until=lambda seen: sum(seen.values()) == 5,
        )
        await eventually(
            "the stream ended",
            lambda: handled(served, "Stream", side="client", grpc_type="server_stream"),
            until=lambda seen: seen == {"OK": 1},
        )

    assert counts == {"OK": 1, "PermissionDenied": 1, "Unknown": 1, "DeadlineExceeded": 1, "Canceled": 1}
    assert list(values(served, "grpc_client_handling_seconds_count", grpc_method="Buy").values()) == [5]
    assert list(values(served, "grpc_client_started_total", grpc_method="Buy").values()) == [5]


def exemplars(port: int, side: str) -> set[str]:
    """The ids of traces that times of RPCs name."""
    page = get(port, Accept=OPENMETRICS)[1]
    found = rf'^grpc_{side}_handling_seconds_bucket.* # {{span_id="\w+",trace_id="(\w+)"}}'
    return set(re.findall(found, page, re.MULTILINE))


async def test_times_of_traced_calls_have_the_trace_as_their_exemplar(served: int, recorder: Recorder) -> None:
    async with shop_at() as address, open_channel(address) as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/Buy")
        await call(b"yes")
        with tracing.request_span("UpNext", "r-1") as span, span.current():
            await call(b"yes")
        of_client = await eventually(
            "a client's time has an exemplar", lambda: exemplars(served, "client"), until=lambda seen: len(seen) > 0
        )

    traces = {format_trace_id(each.context.trace_id) for each in recorder.finished() if each.context is not None}
    assert len(of_client) == 1  # outside of a request, a client's call is not traced
    assert of_client <= exemplars(served, "server") <= traces


async def test_streams_count_however_their_handler_answers(served: int) -> None:
    async with shop() as channel:
        for method, request in (("Stream", b"yes"), ("Write", b"yes")):
            assert [each async for each in channel.unary_stream(f"/{SERVICE}/{method}")(request)] == [b"yes"]
        with pytest.raises(grpc.aio.AioRpcError):
            [each async for each in channel.unary_stream(f"/{SERVICE}/Stream")(b"no")]

    assert handled(served, "Stream", grpc_type="server_stream") == {"OK": 1, "NotFound": 1}
    assert handled(served, "Write", grpc_type="server_stream") == {"OK": 1}


async def test_methods_that_a_server_lacks_are_one_label_value(served: int) -> None:
    async with shop() as channel:
        for number in range(20):
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(f"/{SERVICE}/Invented{number}")(b"")

    assert handled(served, "unknown", grpc_service="unknown", grpc_type="unknown") == {"Unimplemented": 20}
    assert "Invented" not in get(served)[1]


def test_a_value_is_read_when_it_is_scraped(served: int) -> None:
    seen = {("a",): 1.0}
    expose("lab_things_total", "Things.", lambda: seen, ("kind",))
    expose("lab_size", "Size.", lambda: len(seen))
    seen["b",] = 2.0

    assert values(served, "lab_things_total") == {frozenset({("kind", "a")}): 1, frozenset({("kind", "b")}): 2}
    assert values(served, "lab_size") == {frozenset(): 2}


def test_a_value_that_changes_while_it_is_read_is_read_again(served: int) -> None:
    reads = iter((KeyError, RuntimeError, None))

    def read() -> float:
        if error := next(reads):
            raise error
        return 7

    expose("lab_size", "Size.", read)

    assert values(served, "lab_size") == {frozenset(): 7}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9100", "localhost:1", "[::1]:80", "10.1.2.3"])
def test_only_hosts_that_no_page_can_name_are_served(served: int, host: str) -> None:
    assert get(served, Host=host)[0] == 200
    assert get(served, Host=f"{host}.example.com")[0] == 403


def test_only_the_metrics_can_be_read(served: int) -> None:
    assert get(served, "/metrics?name[]=x")[0] == 200
    assert get(served, "/")[0] == 404
    assert get(served, method="POST")[0] == 501


def test_openmetrics_are_served_to_those_who_accept_them(served: int) -> None:
    assert get(served, Accept=OPENMETRICS)[1].endswith("# EOF\n")
    assert "# EOF" not in get(served)[1]


def test_silent_connections_hold_a_scrape_only_until_their_timeout(
    served: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics._Handler, "timeout", 0.05)
    with ExitStack() as silent:
        for _ in range(3):
            silent.enter_context(socket.create_connection(("127.0.0.1", served)))

        assert get(served)[0] == 200


def test_a_taken_port_is_one_line(served: int) -> None:
    with pytest.raises(UnitError, match=f"cannot serve metrics on 127.0.0.1:{served}: is the port taken"):
        serve_metrics(f"127.0.0.1:{served}")


@pytest.mark.parametrize("unit", ["controlplane", "resolver", "gateway", "caller", "renderer"])
def test_without_metrics_a_unit_does_not_load_the_library(unit: str) -> None:
    code = f"import sys, services.{unit}.__main__; print('prometheus_client' in sys.modules)"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed == "False\n"


def test_without_metrics_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_registry", None)
    serve_metrics("")
    expose("lab_size", "Size.", lambda: 1)

    assert metrics.registry() is None
