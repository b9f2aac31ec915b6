"""No unit ends the collector, fills its disk or keeps it from others, by what it exports; nor does a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from threading import Event
from typing import IO

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from services.collector.__main__ import MOST_BYTES, MOST_SPANS
from tests.disks import fill, mounted
from tests.missing import missing
from tests.ports import free_port
from tests.transport.floods import damage_by

MB = 2**20
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
MOST_FILE_BYTES = 64 * MB
ON_A_BUSY_MACHINE = 1.35


def exported(span: trace_pb2.Span, times: int) -> bytes:
    scope = trace_pb2.ScopeSpans(spans=[span] * times)
    return ExportTraceServiceRequest(resource_spans=[trace_pb2.ResourceSpans(scope_spans=[scope])]).SerializeToString()


def span(*attributes: KeyValue) -> trace_pb2.Span:
    return trace_pb2.Span(trace_id=os.urandom(16), span_id=os.urandom(8), attributes=attributes)


def nested(depth: int) -> AnyValue:
    value = AnyValue(string_value="x" * 1_000)
    for _ in range(depth):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    return value


ATTRIBUTE, NESTED = KeyValue(key="k", value=AnyValue(string_value="x" * 250)), KeyValue(key="k", value=nested(30))


@dataclass(frozen=True, slots=True)
class Exports:
    """Exports of the same message, some at a time."""

    name: str
    message: Callable[[], bytes]
    times: int
    at_once: int
    connections: int = 1

    def send(self, address: str, context: SSLContext | None = None) -> None:
        """Sends them all, whatever comes back."""
        assert context is None
        message = self.message()
        with ExitStack() as closing:
            channels = [closing.enter_context(grpc.insecure_channel(address, OPTIONS)) for _ in range(self.connections)]
            exports: list[grpc.UnaryUnaryMultiCallable[bytes, bytes]] = [each.unary_unary(EXPORT) for each in channels]
            crew = closing.enter_context(ThreadPoolExecutor(self.at_once))

            def once(number: int) -> None:
                with suppress(grpc.RpcError):
                    exports[number % self.connections](message, timeout=60)

            list(crew.map(once, range(self.times)))


FLOODS = (
    Exports("two million spans in a message", lambda: exported(span(), 2_000_000), 3, 3),
    Exports("the largest that are taken", lambda: exported(span(*[ATTRIBUTE] * 60), 32), 400, 400, connections=10),
    Exports("spans that are none", lambda: exported(trace_pb2.Span(), 250_000), 30, 6),
    Exports("attributes of one span", lambda: exported(span(*[KeyValue()] * 250_000), 1), 30, 6),
    Exports("values in values", lambda: exported(span(*[NESTED] * 60), 6), 100, 32),
    Exports("small ones", lambda: exported(span(), 1), 20_000, 64),
)


@dataclass(frozen=True, slots=True)
class Collector:
    address: str
    pid: int
    file: Path
    health: health_pb2_grpc.HealthStub

    def answers(self) -> bool:
        try:
            return bool(self.health.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True))
        except grpc.RpcError:
            return False


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collecting(tmp_path_factory.mktemp("collector") / "spans") as found:
        yield found


@contextmanager
def collecting(file: Path, log: IO[bytes] | None = None) -> Iterator[Collector]:
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "services.collector", "--listen", address, "--spans", str(file)]
    env = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # as the runtimes set it
    with subprocess.Popen(command, env=env, stderr=log) as process, grpc.insecure_channel(address) as channel:
        try:
            found = Collector(address, process.pid, file, health_pb2_grpc.HealthStub(channel))
            assert found.answers()
            Exports("first", lambda: exported(span(), 500), 20, 1).send(address)
            yield found
        finally:
            process.terminate()


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.name)
def test_a_flood_takes_little_memory_and_disk_and_others_are_answered(collector: Collector, flood: Exports) -> None:
    damage = damage_by(flood, collector.address, collector.pid, collector.answers)

    assert damage.wrong(most_kept=ON_A_BUSY_MACHINE) == "", damage
    assert collector.file.stat().st_size <= MOST_FILE_BYTES


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        ([bytes(MOST_BYTES + 1)], grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
        ([exported(span(), MOST_SPANS + 1)], grpc.StatusCode.RESOURCE_EXHAUSTED, f"send {MOST_SPANS} spans at once"),
        ([b"\xff"], grpc.StatusCode.INVALID_ARGUMENT, "not an export of OTLP"),
        ([exported(span(), 1)] * 2, grpc.StatusCode.INVALID_ARGUMENT, "send one export a request"),
    ],
    ids=["bytes", "spans", "garbage", "two messages"],
)
def test_what_is_no_export_of_a_unit_is_refused(
    collector: Collector, messages: list[bytes], code: grpc.StatusCode, reason: str
) -> None:
    with grpc.insecure_channel(collector.address) as channel:
        export: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(EXPORT)
        with pytest.raises(grpc.RpcError, match=reason) as refused:
            export(iter(messages), timeout=10)

    assert refused.value.code() is code


def test_an_export_that_does_not_come_makes_room_for_others(collector: Collector) -> None:
    over = Event()

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    with grpc.insecure_channel(collector.address) as channel:
        stream: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(EXPORT)
        export: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXPORT)
        silent = [stream.future(nothing(), timeout=30) for _ in range(10)]
        try:
            export(exported(span(), 1), timeout=30)
        finally:
            over.set()

        assert grpc.StatusCode.DEADLINE_EXCEEDED in {each.code() for each in silent}


def test_on_a_full_disk_it_says_so_once_and_keeps_spans_again_once_there_is_space(tmp_path: Path) -> None:
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(mounted(tmp_path, 8 * MB))
        except subprocess.CalledProcessError as error:
            missing(f"needs root and loop devices: {error.stderr.strip()}")
        log = tmp_path / "log"
        collector = stack.enter_context(collecting(disk / "spans", stack.enter_context(log.open("wb"))))
        channel = stack.enter_context(grpc.insecure_channel(collector.address))
        export: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXPORT)
        filler = fill(disk)

        for _ in range(20):
            with pytest.raises(grpc.RpcError, match="cannot keep spans: database or disk is full") as refused:
                export(exported(span(ATTRIBUTE), 500), timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert collector.answers()

        filler.unlink()
        for _ in range(2):
            export(exported(span(ATTRIBUTE), 500), timeout=10)
        said = log.read_text()
    assert "Traceback" not in said
    assert [said.count(each) for each in ("spans are lost until there is space", "spans are kept again")] == [1, 1]
