"""Cached channels: one connection while it works, and never a worse result than over a new one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.transport import ChannelCache, open_blocking_channel
from tests.transport.servers import SERVER


@contextmanager
def served(port: int = 0) -> Iterator[tuple[int, int]]:
    """A server in its own process, on that port; yields port and process id."""
    with subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.kill()


def how_it_is(channel: grpc.Channel, within_s: float) -> health_pb2.HealthCheckResponse:
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=within_s)


def ask(channels: ChannelCache, port: int) -> health_pb2.HealthCheckResponse:
    return channels.call(f"127.0.0.1:{port}", how_it_is, timeout_s=10)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses of the channels opened."""
    opened: list[str] = []

    def counting(address: str) -> grpc.Channel:
        opened.append(address)
        return open_blocking_channel(address)

    monkeypatch.setattr("lab.transport.channels.open_blocking_channel", counting)
    return opened


def test_many_calls_take_one_channel(opened: list[str]) -> None:
    channels = ChannelCache()
    with served() as (port, _):
        answers = [ask(channels, port) for _ in range(5)]
    assert {answer.status for answer in answers} == {health_pb2.HealthCheckResponse.SERVING}
    assert opened == [f"127.0.0.1:{port}"]


def test_a_cleared_cache_opens_a_new_channel(opened: list[str]) -> None:
    channels = ChannelCache()
    with served() as (port, _):
        ask(channels, port)
        channels.clear()
        ask(channels, port)
    assert len(opened) == 2


def test_a_restarted_server_is_reached_at_the_first_call() -> None:
    channels = ChannelCache()
    with served() as (port, _):
        ask(channels, port)
    with pytest.raises(grpc.RpcError) as nobody:  # which keeps the channel, and what that has met with
        ask(channels, port)
    assert nobody.value.code() is grpc.StatusCode.UNAVAILABLE
    with served(port):
        ask(channels, port)
    with served(port):  # without a question between the two
        assert ask(channels, port).status == health_pb2.HealthCheckResponse.SERVING


def test_a_silent_connection_is_replaced_by_a_new_one(opened: list[str]) -> None:
    channels = ChannelCache()
    with served() as (port, frozen):
        ask(channels, port)
        os.kill(frozen, signal.SIGSTOP)
        try:
            with pytest.raises(grpc.RpcError) as silent:
                channels.call(f"127.0.0.1:{port}", how_it_is, timeout_s=0.3)
        finally:
            os.kill(frozen, signal.SIGCONT)
        assert silent.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(opened) == 2
        assert ask(channels, port).status == health_pb2.HealthCheckResponse.SERVING
    assert len(opened) == 3


def test_an_error_status_is_raised_and_not_retried(opened: list[str]) -> None:
    channels = ChannelCache()

    def unknown(channel: grpc.Channel, within_s: float) -> object:
        request = health_pb2.HealthCheckRequest(service="no.such")
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=within_s)

    with served() as (port, _):
        ask(channels, port)
        with pytest.raises(grpc.RpcError) as refused:
            channels.call(f"127.0.0.1:{port}", unknown, timeout_s=10)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert len(opened) == 1
