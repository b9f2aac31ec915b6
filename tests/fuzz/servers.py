"""Real servers in this process, for wrong messages to their methods: control plane, resolver, gateway and a model."""

import asyncio
import logging
import tempfile
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from envoy.service.discovery.v3 import ads_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from lab.transport import open_channel
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc, replicas_pb2, resolver_pb2, rules_pb2
from models.proto.fraud.v1 import fraud_pb2
from models.proto.ranking.v1 import ranking_pb2
from models.stub.options import parse_options
from models.stub.replica import Replica
from services.controlplane.publishing.publisher import Timeouts
from services.controlplane.registry.revisions import Registry
from tests.controlplane.nodes import running
from tests.parts import gateway_up, resolver_up
from tests.raw_calls import server_stream, unary

HANG_S = 2.0
_STREAM_S = 0.02  # a stream may stay open; what it does with the message, it does at once
_TABLE = """
use_cases:
  Rows: {callers: [homepage], api: ranking.v1, default: rows@v1}
models:
  rows: {versions: {v1: {cluster: a}}}
clusters:
  a: {replicas: 1}
"""
_SERVICES: dict[str, tuple[ServiceDescriptor, ...]] = {
    "control plane": tuple(
        module.DESCRIPTOR.services_by_name[name]
        for module, name in (
            (admin_pb2, "Admin"),
            (rules_pb2, "Rules"),
            (replicas_pb2, "Replicas"),
            (ads_pb2, "AggregatedDiscoveryService"),
        )
    ),
    "resolver": (resolver_pb2.DESCRIPTOR.services_by_name["Resolver"],),
    "gateway": (ranking_pb2.DESCRIPTOR.services_by_name["Ranking"], fraud_pb2.DESCRIPTOR.services_by_name["Fraud"]),
    "model": (ranking_pb2.DESCRIPTOR.services_by_name["Ranking"], fraud_pb2.DESCRIPTOR.services_by_name["Fraud"]),
}


class Target(NamedTuple):
    """A method of one of the servers."""

    server: str
    method: MethodDescriptor

    @property
    def path(self) -> str:
        """As on the wire."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def streams(self) -> bool:
        """Whether its end is not the end of the request."""
        return bool(self.method.client_streaming or self.method.server_streaming)


METHODS = [
    Target(name, each) for name, services in _SERVICES.items() for service in services for each in service.methods
]


class Servers:
    """The servers, on their own loop; they end with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._errors: list[str] = []
        self._channels: dict[str, grpc.aio.Channel] = {}
        handler = logging.Handler(logging.ERROR)
        handler.emit = self._keep  # type: ignore[method-assign] # of a handler made for this
        logging.getLogger().addHandler(handler)
        self._loop.set_exception_handler(lambda _, context: self._errors.append(str(context)))
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._run(self._start()).result(60)

    def ask(self, target: Target, message: bytes) -> None:
        """Sends bytes to a method.

        Raises:
            AssertionError: a traceback was logged, the error is not a status of the lab's, or a call hangs.
        """
        code, details = self._run(self._call(target, message)).result(10 * HANG_S)
        assert code is not grpc.StatusCode.DEADLINE_EXCEEDED, f"{target.server} {target.path}: no answer in {HANG_S} s"
        assert "Traceback" not in details, f"{target.server} {target.path}: {details}"
        assert not self._errors, f"{target.server} {target.path}: {self._errors.pop()}"

    def _run(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _keep(self, record: logging.LogRecord) -> None:
        # gRPC itself fails to send a status to a call that was cancelled meanwhile.
        if record.exc_info and "ExecuteBatchError" not in repr(record.exc_info[1]):
            self._errors.append(f"{record.name}: {record.getMessage()}: {record.exc_info[1]!r}")

    async def _start(self) -> None:
        self._stack = AsyncExitStack()
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        enter = self._stack.enter_async_context
        timeouts = Timeouts(load=5.0, acknowledge=5.0, retire=0.05)
        plane = await enter(running(Registry(folder / "registry.sqlite"), timeouts))
        here = "127.0.0.1:0"
        options = ["--cluster=a", "--replica=a-a", f"--listen={here}", f"--advertise={here}"]
        model = Replica(parse_options([*options, f"--control-plane={plane.address}"]))
        self._serving = asyncio.create_task(model.run(asyncio.Event()))
        addresses = {
            "control plane": plane.address,
            "resolver": await enter(resolver_up(plane.address)),
            "gateway": await enter(gateway_up(plane.address)),
        }
        async with open_channel(plane.address) as channel:
            source = admin_pb2.SourceFile(name="routes.yaml", text=_TABLE)
            publish = admin_pb2_grpc.AdminStub(channel).Publish
            async for _ in publish(admin_pb2.PublishRequest(sources=[source], author="fuzz")):
                pass
        addresses["model"] = model.address
        for name, address in addresses.items():
            self._channels[name] = await enter(open_channel(address))

    async def _call(self, target: Target, message: bytes) -> tuple[grpc.StatusCode, str]:
        channel = self._channels[target.server]
        metadata = (("x-routing-key", "rows.v1"),)
        if not target.streams:
            call: Any = unary(channel, target.path)(message, timeout=HANG_S, metadata=metadata)
            return await call.code(), await call.details() or ""
        if target.method.client_streaming:
            call = channel.stream_stream(target.path)(timeout=HANG_S)
            try:
                await call.write(message)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return await call.code(), await call.details() or ""
        else:
            call = server_stream(channel, target.path)(message, timeout=HANG_S, metadata=metadata)
        try:
            async with asyncio.timeout(_STREAM_S):
                return await call.code(), await call.details() or ""
        except TimeoutError:
            call.cancel()
            return grpc.StatusCode.CANCELLED, ""


@cache
def servers() -> Servers:
    """The servers of this process."""
    return Servers()
