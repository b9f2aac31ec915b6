"""The containers' health probe against real servers: it must tell a server that serves from one that does not."""

from __future__ import annotations

import asyncio
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from lab import CHECKOUT
from lab.identity import Identity
from lab.identity.authority import Authority, folder_of
from lab.transport import listen, new_server
from lab.transport.security import MTLS, Security

SCRIPT = CHECKOUT / "compose" / "healthcheck.py"
Status = health_pb2.HealthCheckResponse


async def probe(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-IS", str(SCRIPT), *arguments]
    return await asyncio.to_thread(
        lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, env=environment)
    )


@pytest.mark.parametrize(("status", "exit_status"), [(Status.SERVING, 0), (Status.NOT_SERVING, 1)])
async def test_a_grpc_server_is_well_if_its_health_service_says_so(status: int, exit_status: int) -> None:
    server, healthy = new_server()
    port = listen(server, "127.0.0.1:0")
    await server.start()
    await healthy.set("", status)
    try:
        assert (await probe("grpc", str(port))).returncode == exit_status
    finally:
        await server.stop(0)


@pytest.mark.parametrize("status", [Status.SERVING, Status.NOT_SERVING])
async def test_a_server_that_is_not_ready_lives(status: int) -> None:
    server, healthy = new_server()
    port = listen(server, "127.0.0.1:0")
    await server.start()
    await healthy.set("", status)
    try:
        assert (await probe("grpc", str(port), environment={"HEALTHCHECK_ANY": "1"})).returncode == 0
    finally:
        await server.stop(0)
    assert (await probe("grpc", str(port), environment={"HEALTHCHECK_ANY": "1"})).returncode == 1


@pytest.mark.parametrize(("status", "exit_status"), [(Status.SERVING, 0), (Status.NOT_SERVING, 1)])
async def test_a_server_with_certificates_is_asked_with_one(status: int, exit_status: int, tmp_path: Path) -> None:
    Authority.create(tmp_path / "pki", lifetime_s=3600).issue("m", Identity("model", "m"), {"127.0.0.1"})
    security = Security(MTLS, str(folder_of(tmp_path / "pki", "m")))
    server, healthy = new_server(security=security)
    port = listen(server, "127.0.0.1:0", security)
    await server.start()
    await healthy.set("", status)
    try:
        environment = {"LAB_SECURITY": MTLS, "LAB_IDENTITY": security.folder}
        assert (await probe("grpc", str(port), environment=environment)).returncode == exit_status
        assert (await probe("grpc", str(port))).returncode == 1
    finally:
        await server.stop(0)


async def test_a_server_that_takes_connections_and_says_nothing_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = await probe("grpc", str(silent.getsockname()[1]))

    assert result.returncode == 1
    assert "timed out" in result.stderr


async def test_a_port_that_nobody_listens_on_is_not_well() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = await probe("http", str(unused.getsockname()[1]), "/ready")

    assert result.returncode == 1
    assert "refused" in result.stderr


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (503, 1)])
async def test_a_page_is_well_if_it_answers_200(status: int, exit_status: int) -> None:
    with page(status) as port:
        assert (await probe("http", str(port), "/ready")).returncode == exit_status


@contextmanager
def page(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_loads_nothing_but_the_standard_librarys_lightest() -> None:
    before = set(sys.modules)
    runpy.run_path(str(SCRIPT), run_name="probe")

    assert not {"grpc", "asyncio", "json", "http"} & (set(sys.modules) - before)
