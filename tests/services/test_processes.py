"""Services as processes that are started, frozen, killed and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from lab.client import Client, leases
from lab.client.strategies import Leased
from lab.errors import CallError
from lab.transport import open_channel
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from tests.parts import WITHIN_S, ControlPlane, Model, client_of, rank_request, update, use_case
from tests.waiting import eventually

ROWS = {"HomepageRows": use_case("rows@v1")}
CONTEXT = {"user_id": "u1"}


class Process:
    """A service's process, its port and its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.said.append(line.decode().rstrip())

    async def hears(self, pattern: str) -> re.Match[str]:
        """Waits for a line of its log."""

        def said() -> str:
            return "\n".join(self.said)

        log = await eventually(f"{pattern!r} in the log", said, until=lambda log: bool(re.search(pattern, log)))
        match = re.search(pattern, log)
        assert match is not None
        return match

    async def address(self) -> str:
        return f"127.0.0.1:{(await self.hears(r'serves on port ([0-9]+)'))[1]}"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        status = await asyncio.wait_for(self._process.wait(), WITHIN_S)
        await self._reading
        assert "Traceback" not in "".join(self.said)
        return status

    async def reap(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()


@asynccontextmanager
async def started(module: str, *arguments: str) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "--listen", "127.0.0.1:0", *arguments, stderr=asyncio.subprocess.PIPE
    )
    process = Process(child)
    try:
        yield process
    finally:
        await process.reap()


def gateway(control_plane: ControlPlane, name: str, *more: str) -> AbstractAsyncContextManager[Process]:
    return started("services.gateway", "--name", name, "--control-plane", control_plane.address, *more)


def resolver(control_plane: ControlPlane, *more: str) -> AbstractAsyncContextManager[Process]:
    arguments = ("--name", "resolver", "--owner", "homepage", "--control-plane", control_plane.address)
    return started("services.resolver", *arguments, *more)


@contextmanager
def frozen(process: Process) -> Iterator[None]:
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


async def in_force(control_plane: ControlPlane, message: object, *nodes: str) -> None:
    names = set(nodes)
    await eventually("they subscribe", lambda: names <= {hello.node for hello in control_plane.hellos})
    await control_plane.put_in_force(message, *nodes)  # type: ignore[arg-type]


async def key_of(client: Client) -> str:
    return (await client.call("HomepageRows", rank_request(), CONTEXT)).routing_key


async def test_a_gateway_that_is_stopped_fails_no_request(
    control_plane: ControlPlane, model: Model, tmp_path: Path
) -> None:
    log = tmp_path / "access.jsonl"
    async with (
        gateway(control_plane, "gateway-1", "--access-log", str(log)) as one,
        gateway(control_plane, "gateway-2") as other,
        AsyncExitStack() as stack,
    ):
        message = update(1, use_cases=ROWS, endpoints={"rows.v1": [model.address]})
        await in_force(control_plane, message, "gateway-1", "gateway-2")
        gateways = (await one.address(), await other.address())
        client = await stack.enter_async_context(client_of("gateway", gateway=gateways))
        answered, done = 0, False

        async def load() -> None:
            nonlocal answered
            while not done:
                assert await key_of(client) == "rows.v1"
                answered += 1

        loads = [asyncio.create_task(load()) for _ in range(16)]
        await eventually("both are asked", lambda: answered > 200)
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
        enough = answered + 200
        await eventually("the other goes on", lambda: answered > enough)
        done = True
        await asyncio.gather(*loads)
        other.signal(signal.SIGTERM)
        assert await other.ended() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["status"] for line in lines} == {"OK"}
    assert 0 < len(lines) < answered


async def test_a_gateway_that_is_killed_fails_only_its_requests_in_flight(
    control_plane: ControlPlane, model: Model
) -> None:
    async with gateway(control_plane, "gateway-1") as one, gateway(control_plane, "gateway-2") as other:
        message = update(1, use_cases=ROWS, endpoints={"rows.v1": [model.address]})
        await in_force(control_plane, message, "gateway-1", "gateway-2")
        async with client_of("gateway", gateway=(await one.address(), await other.address())) as client:
            one.signal(signal.SIGKILL)
            await one.ended()
            failures: list[CallError] = []
            for _ in range(50):
                try:
                    assert await key_of(client) == "rows.v1"
                except CallError as error:
                    failures.append(error)
            assert len(failures) <= 1
            assert {error.code for error in failures} <= {grpc.StatusCode.UNAVAILABLE}


@asynccontextmanager
async def leased(control_plane: ControlPlane, model: Model) -> AsyncIterator[tuple[Process, Client]]:
    """A resolver's process, and a client of it whose lease leads to the model."""
    async with resolver(control_plane) as process:
        await in_force(control_plane, update(1, use_cases=ROWS), "resolver")
        async with client_of("mesh", resolver=(await process.address(),), sidecar=(model.address,)) as client:
            assert await key_of(client) == "rows.v1"
            yield process, client


async def test_a_frozen_resolver_is_detected_and_leases_serve_meanwhile(
    control_plane: ControlPlane, model: Model
) -> None:
    async with leased(control_plane, model) as (process, client):
        assert isinstance(client.strategy, Leased)
        watch = client.strategy.watch
        with frozen(process):
            assert await key_of(client) == "rows.v1"
            await eventually("the watch is lost", lambda: not watch.holds_until)
            for _ in range(5):
                assert await key_of(client) == "rows.v1"
        await watch.ready(WITHIN_S)
        assert await key_of(client) == "rows.v1"
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0


async def test_a_revision_that_goes_out_to_a_frozen_resolver_has_not_converged(
    control_plane: ControlPlane, model: Model
) -> None:
    async with leased(control_plane, model) as (process, client):
        assert await key_of(client) == "rows.v1"
        assert isinstance(client.strategy, Leased)
        watch = client.strategy.watch
        await watch.ready(WITHIN_S)
        with frozen(process):
            sequence = control_plane.send(update(2, use_cases={"HomepageRows": use_case("rows@v2")}))
            await eventually("the client's hold is over", lambda: time.monotonic() > watch.holds_until)
            assert await key_of(client) == "rows.v1"
            assert ("resolver", sequence) not in control_plane.errors
        assert await control_plane.answered("resolver", sequence) == ""
        assert {await key_of(client) for _ in range(20)} == {"rows.v2"}


async def test_a_client_that_makes_no_requests_asks_for_no_hold_until_it_does(
    control_plane: ControlPlane, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_IDLE_AFTER_S", 0.0)
    async with leased(control_plane, model) as (_, client):
        assert isinstance(client.strategy, Leased)
        watch = client.strategy.watch
        await eventually("its hold is over", lambda: 0 < watch.holds_until < time.monotonic())
        sequence = control_plane.send(update(2, use_cases={"HomepageRows": use_case("rows@v2")}))
        assert await control_plane.answered("resolver", sequence) == ""
        await eventually("that hold is over", lambda: watch.holds_until < time.monotonic())
        assert await key_of(client) == "rows.v2"
        await eventually("it holds again", lambda: time.monotonic() < watch.holds_until)


async def test_a_resolver_that_is_stopped_ends_its_watchers_streams(control_plane: ControlPlane, model: Model) -> None:
    async with leased(control_plane, model) as (process, client):
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
        assert await key_of(client) == "rows.v1"


_FROZEN_CONTROL_PLANE = """
import asyncio
from tests.parts import *

async def main():
    plane = ControlPlane()
    plane.send(update(1, use_cases={"HomepageRows": use_case("rows@v1")}))
    async with plane.up():
        print(plane.address, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_frozen_control_plane_is_detected_and_found_again() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FROZEN_CONTROL_PLANE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert child.stdout is not None
        plane = ControlPlane()
        plane.address = (await asyncio.wait_for(child.stdout.readline(), WITHIN_S)).decode().strip()
        async with resolver(plane) as process:
            await process.hears("revision 1 in force")
            child.send_signal(signal.SIGSTOP)
            await process.hears("control plane .* lost, revision 1 stays in force: .*")
            process.said.clear()
            child.send_signal(signal.SIGCONT)
            await process.hears("control plane .* reached")
    finally:
        child.kill()
        await child.wait()


async def test_a_caller_answers_pages_until_it_is_stopped(
    control_plane: ControlPlane, model: Model, tmp_path: Path
) -> None:
    config = tmp_path / "caller.json"
    async with gateway(control_plane, "gateway-1") as entry:
        use_cases = {**ROWS, "ContinueWatchingRanking": use_case("rows@v2")}
        endpoints = {key: [model.address] for key in ("rows.v1", "rows.v2")}
        await in_force(control_plane, update(1, use_cases=use_cases, endpoints=endpoints), "gateway-1")
        document = {
            "topologies": ["gateway"],
            "endpoints": {"by_role": {"gateway": [await entry.address()]}},
            "apis": {},
        }
        config.write_text(json.dumps(document))
        async with started("services.caller", "--name", "homepage", "--config", str(config)) as process:
            async with open_channel(await process.address()) as channel:
                page = await caller_pb2_grpc.PagesStub(channel).GetPage(caller_pb2.GetPageRequest())
            assert [section.routing_key for section in page.sections] == ["rows.v1", "rows.v2"]
            process.signal(signal.SIGTERM)
            assert await process.ended() == 0


async def test_a_bad_configuration_ends_a_caller_with_one_line(tmp_path: Path) -> None:
    async with started("services.caller", "--name", "x", "--config", str(tmp_path / "none.json")) as process:
        assert await process.ended() == 1
    [line] = process.said
    assert "none.json: cannot be read" in line


@pytest.mark.parametrize(
    "module", ["services.resolver.__main__", "services.gateway.__main__", "services.caller.__main__"]
)
async def test_a_service_loads_nothing_heavy(module: str) -> None:
    heavy = "pydantic numpy pyarrow yaml rich typer hdrh psutil".split()  # noqa: SIM905 (reads better)
    code = f"import sys, {module}; print(*(name for name in {heavy} if name in sys.modules))"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    loaded, _ = await asyncio.wait_for(child.communicate(), WITHIN_S)
    assert loaded.decode().split() == []
